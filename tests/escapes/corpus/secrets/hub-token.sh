cat "$OUT/home/.cache/huggingface/token" ~/.cache/huggingface/token
