s = socket.socket(17, socket.SOCK_RAW, 768); print('ESCAPED')
