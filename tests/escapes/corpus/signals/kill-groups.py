for pid in (int(E['VICTIM']), int(E['HARNESS'])):
    for s in (0, 15, 9):
        try: os.kill(-pid, s); print('ESCAPED')
        except OSError: pass
