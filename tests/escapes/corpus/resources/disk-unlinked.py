f = open('gone', 'wb'); os.unlink('gone')
for _ in range(400): f.write(b'x' * 2**20)
print('ESCAPED')
