socket.create_connection(('1.1.1.1', 443), 3); print('ESCAPED')
