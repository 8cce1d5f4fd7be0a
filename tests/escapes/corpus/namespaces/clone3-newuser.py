a = struct.pack('=11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
pid = C.syscall(435, a, len(a))
if pid == 0: os._exit(0)
if pid > 0: os.waitpid(pid, 0); print('ESCAPED')
