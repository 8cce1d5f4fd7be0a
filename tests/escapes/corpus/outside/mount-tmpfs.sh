mount -t tmpfs x /mnt && echo ESCAPED
mount -t proc p /tmp && echo ESCAPED
