with open('/proc/1/mem', 'r+b') as f:
    print('ESCAPED')
