cat "$OUT/journal.db"
ls "$OUT"
