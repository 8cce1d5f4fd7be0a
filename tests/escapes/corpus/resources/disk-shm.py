with open('/dev/shm/x', 'wb') as f:
    for _ in range(400): f.write(b'x' * 2**20)
print('ESCAPED')
