echo x > "/proc/1/root$OUT/outside.txt"
