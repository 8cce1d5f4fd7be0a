fds = []
while len(fds) < 100000: fds.append(os.open('/dev/null', 0))
print('ESCAPED')
