nsenter -t 1 -m -u -i -n -p true && echo ESCAPED
nsenter -t $HARNESS -a true && echo ESCAPED
