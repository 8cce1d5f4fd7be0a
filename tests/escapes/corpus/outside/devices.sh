for d in /dev/mem /dev/kmem /dev/kmsg /dev/port /dev/vda /dev/sda /dev/fuse /dev/kvm /dev/loop-control; do [ -e $d ] && echo ESCAPED $d; done
