setsid sleep 120 >/dev/null 2>&1 < /dev/null & disown -a
