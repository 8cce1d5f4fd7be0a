for _ in range(2000):
    if C.inotify_init1(0) < 0: break
for n in range(5000):
    C.inotify_add_watch(3, f'/proc/{n}'.encode(), 0xFFF)
