dd if=/dev/zero of=big bs=1M count=400 2>&1; cat /dev/zero > /tmp/big; cat /dev/zero > ~/big
