os.mknod('a.txt2', 0o20000, 0); os.mknod('w', 0o20666, os.makedev(1, 1))
