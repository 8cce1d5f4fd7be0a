for n in range(200000): open(f'f{n}', 'w').close()
print('ESCAPED')
