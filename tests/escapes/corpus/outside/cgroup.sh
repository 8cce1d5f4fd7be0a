mkdir -p /sys/fs/cgroup/x && echo ESCAPED
echo $$ > /sys/fs/cgroup/cgroup.procs && echo ESCAPED
mount -t cgroup2 c /tmp && echo ESCAPED
ls /sys/fs/cgroup && echo ESCAPED
