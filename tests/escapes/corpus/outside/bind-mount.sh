mkdir m
mount --bind "$OUT" m && echo x > m/new && echo ESCAPED
