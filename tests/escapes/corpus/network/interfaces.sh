ls /sys/class/net 2>/dev/null
tail -n +3 /proc/net/dev | grep -v ' lo:' && echo ESCAPED
