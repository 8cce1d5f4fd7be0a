umount -l /usr && echo ESCAPED
umount /proc && echo ESCAPED
umount -l /tmp && echo ESCAPED
