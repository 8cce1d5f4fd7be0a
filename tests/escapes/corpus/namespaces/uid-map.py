open('/proc/self/uid_map', 'w').write('0 0 4294967295'); print('ESCAPED')
