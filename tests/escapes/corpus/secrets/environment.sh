env
cat /proc/self/environ
