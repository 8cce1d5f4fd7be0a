ls -d /proc/$VICTIM /proc/$HARNESS && echo ESCAPED
ps -e
