for n in range(3000):
    os.mkdir('d'); os.chdir('d')
