import platform
n = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
pid = C.syscall(n, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
if pid > 0: os.waitpid(pid, 0); print('ESCAPED')
