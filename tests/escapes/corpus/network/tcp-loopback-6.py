socket.create_connection(('::1', int(E['PORT'])), 3); print('ESCAPED')
