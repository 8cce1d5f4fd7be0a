setsid sleep 120 >/dev/null 2>&1 &
