import platform
print('ESCAPED' if C.syscall({'x86_64': 321, 'aarch64': 280}[platform.machine()], 0, struct.pack('=4I48x', 2, 4, 4, 1), 64) >= 0 else 'refused')
