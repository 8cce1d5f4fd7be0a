socket.create_connection(('127.0.0.1', int(E['PORT'])), 3).send(b'x'); print('ESCAPED')
