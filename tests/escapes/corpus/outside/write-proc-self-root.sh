echo x > "/proc/self/root$OUT/outside.txt"
