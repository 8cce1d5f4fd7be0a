kill -9 1
kill -TERM 1
kill -STOP 1
sleep 0.1
[ -e /proc/1 ] || echo ESCAPED
