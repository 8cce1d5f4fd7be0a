import threading
for _ in range(20000):
    try: threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    except RuntimeError: break
os.write(1, b'tried'); os._exit(0)
