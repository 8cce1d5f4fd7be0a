unshare -U true && echo ESCAPED
unshare -r true && echo ESCAPED
unshare -Urm mount -t tmpfs x /tmp && echo ESCAPED
