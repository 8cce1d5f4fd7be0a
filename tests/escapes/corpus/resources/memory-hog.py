x = []
while True: x.append(bytearray(b'1') * 2**20)
