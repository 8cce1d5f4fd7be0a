import platform
print('ESCAPED' if C.syscall({'x86_64': 323, 'aarch64': 282}[platform.machine()], 1) >= 0 else 'refused')
