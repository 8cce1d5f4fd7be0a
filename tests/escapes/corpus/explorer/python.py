open('a.txt', 'w').write('x')
