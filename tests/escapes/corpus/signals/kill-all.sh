kill -TERM -1
kill -KILL -1
