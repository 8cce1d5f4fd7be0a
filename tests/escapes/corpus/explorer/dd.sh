dd if=/dev/zero of=a.txt bs=1 count=3 conv=notrunc 2>&1
