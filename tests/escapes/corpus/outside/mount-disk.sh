for d in /dev/vd* /dev/sd* /dev/nvme*; do mount $d /tmp && echo ESCAPED; done
