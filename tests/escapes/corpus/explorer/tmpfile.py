fd = os.open('.', os.O_TMPFILE | os.O_RDWR); os.write(fd, b'x')
os.link(f'/proc/self/fd/{fd}', 'made', follow_symlinks=True)
