dmesg 2>/dev/null | grep . && echo ESCAPED
head -c1 /proc/kcore 2>/dev/null | grep . && echo ESCAPED
