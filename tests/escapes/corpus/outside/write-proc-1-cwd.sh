echo x > "/proc/1/cwd/$OUT/outside.txt"
ls -la /proc/1/cwd/
