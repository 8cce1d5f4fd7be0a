print('ESCAPED' if C.shmat(int(E['SHM']), None, 0o10000) > 0 else 'refused', os.listdir('/dev/shm'))
