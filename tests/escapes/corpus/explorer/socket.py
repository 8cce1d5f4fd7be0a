s = socket.socket(socket.AF_UNIX); s.bind('sock')
