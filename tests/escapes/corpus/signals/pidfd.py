for pid in (int(E['VICTIM']), int(E['HARNESS'])):
    try: os.pidfd_open(pid); print('ESCAPED')
    except OSError: pass
