m = mmap.mmap(-1, 512 * 2**20); m.write(b'1' * len(m)); time.sleep(5)
