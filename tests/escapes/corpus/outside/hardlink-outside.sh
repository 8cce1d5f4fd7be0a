ln "$OUT/outside.txt" l && echo x > l
