mount -o remount,rw / && echo ESCAPED
mount -o remount,rw /usr && echo ESCAPED
