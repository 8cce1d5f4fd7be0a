echo h > /proc/sysrq-trigger && echo ESCAPED
echo 1 > /proc/self/oom_score_adj
echo -999 > /proc/1/oom_score_adj && echo ESCAPED
