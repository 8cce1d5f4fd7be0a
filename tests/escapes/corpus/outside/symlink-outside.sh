ln -s "$OUT/outside.txt" l
echo x > l
ln -s "$OUT" d
echo > d/n
