import platform
print('ESCAPED' if C.syscall({'x86_64': 175, 'aarch64': 105}[platform.machine()], b'x' * 64, 64, b'') == 0 else 'refused')
