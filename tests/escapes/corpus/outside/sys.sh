find /sys -writable -type f 2>/dev/null | grep . && echo ESCAPED
ls /sys/kernel /sys/class 2>/dev/null && echo ESCAPED
echo 0 > /sys/devices/system/cpu/cpu1/online && echo ESCAPED
