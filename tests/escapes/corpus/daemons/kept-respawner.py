if os.fork() == 0:
    end = time.time() + 60
    while time.time() < end:
        if os.fork(): os._exit(0)
        time.sleep(0.001)
