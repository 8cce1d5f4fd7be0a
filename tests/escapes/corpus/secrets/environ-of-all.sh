for p in /proc/[0-9]*; do cat $p/environ $p/cmdline; done
