for _ in range(8):
    if os.fork() == 0:
        x = bytearray(b'1') * (64 * 2**20); time.sleep(20); os._exit(0)
time.sleep(20)
