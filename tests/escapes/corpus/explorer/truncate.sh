truncate -s 0 a.txt
truncate -s 1M deep/b.txt
