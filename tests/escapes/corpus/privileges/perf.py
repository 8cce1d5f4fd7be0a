import platform
print('ESCAPED' if C.syscall({'x86_64': 298, 'aarch64': 241}[platform.machine()], struct.pack('=IIQ112x', 1, 128, 0), 0, -1, -1, 0) >= 0 else 'refused')
