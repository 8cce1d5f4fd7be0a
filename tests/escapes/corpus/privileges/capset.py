h = struct.pack('=Ii', 0x20080522, 0); d = struct.pack('=6I', 0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)
print('ESCAPED' if C.capset(h, d) == 0 else 'refused')
