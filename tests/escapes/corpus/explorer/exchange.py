open('n', 'w'); C.renameat2(-100, b'n', -100, b'a.txt', 2)
