os.mkdir('x' * 255); open('x' * 255 + '/' + 'y' * 255, 'w').close()
open('z' * 256, 'w'); print('ESCAPED')
