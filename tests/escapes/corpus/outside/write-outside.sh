echo x > "$OUT/outside.txt"
echo x > "$OUT/new"
mkdir -p "$OUT/d"
