for pid in (int(E['VICTIM']), int(E['HARNESS']), 1):
    for how in (16, 0x4206):
        if C.ptrace(how, pid, None, None) == 0: print('ESCAPED', pid)
