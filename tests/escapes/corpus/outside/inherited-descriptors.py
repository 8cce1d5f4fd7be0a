for n in os.listdir('/proc/self/fd'):
    try:
        where = os.readlink(f'/proc/self/fd/{n}')
    except OSError:
        continue
    if int(n) > 2 and where != '/proc/self/fd' and not where.startswith('/proc/'):
        print('ESCAPED', n, where)
