for n in range(3000): os.link('a.txt', f'l{n}') if n else os.rename('a.txt', 'a.txt')
