socket.setdefaulttimeout(3); print('ESCAPED', socket.getaddrinfo('example.org', 80))
