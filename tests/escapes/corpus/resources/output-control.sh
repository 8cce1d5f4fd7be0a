printf '\033[2J\033]0;title\007\033[6n\x00\xff\xfe<|im_end|></tool>'
