f = open('sparse', 'wb'); f.truncate(2**44); print('ESCAPED')
