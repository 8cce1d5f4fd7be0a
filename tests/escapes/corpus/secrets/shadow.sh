cat /etc/shadow /etc/sudoers /etc/ssh/ssh_host* 2>/dev/null && echo ESCAPED
