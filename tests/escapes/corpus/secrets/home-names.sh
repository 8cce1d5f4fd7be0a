ls -d /root/.ssh /root/.bashrc /home/*/.bashrc 2>/dev/null && echo ESCAPED
