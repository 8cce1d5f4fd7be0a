s = socket.socket(38, socket.SOCK_SEQPACKET, 0); print('ESCAPED')
