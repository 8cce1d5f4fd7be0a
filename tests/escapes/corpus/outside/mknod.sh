mknod disk b 254 0 && head -c 1 disk && echo ESCAPED
mknod mem c 1 1 && head -c 1 mem && echo ESCAPED
