import platform
k = {'x86_64': 250, 'aarch64': 219}[platform.machine()]
for ring in (-3, -4, -5):
    if C.syscall(k, 6, ring, 0, 0) >= 0: print('ESCAPED', ring)
if C.syscall(k, 0, -3, 1) >= 0: print('ESCAPED get')
