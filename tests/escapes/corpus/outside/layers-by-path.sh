for d in /tmp/manyhands-* /proc/*/root/tmp/manyhands-*; do [ -e $d/layers ] && echo ESCAPED; done
