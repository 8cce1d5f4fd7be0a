unshare -m true && echo ESCAPED
unshare -n true && echo ESCAPED
unshare -p true && echo ESCAPED
