for pid in (int(E['VICTIM']), int(E['HARNESS'])):
    try: resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, 1)); print('ESCAPED')
    except OSError: pass
