cat /dev/zero > big
cat /dev/zero > deep/big
