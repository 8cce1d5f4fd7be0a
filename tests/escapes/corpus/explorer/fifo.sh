mkfifo pipe
mkfifo deep/pipe
