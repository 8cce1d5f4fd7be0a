with open('a.txt', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[:3] = b'xxx'
