f = open('a.txt', 'r+'); fcntl.flock(f, fcntl.LOCK_EX); os.fork(); f.close() if False else None
