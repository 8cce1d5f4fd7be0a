echo x >> /etc/passwd && echo ESCAPED
rm -f /etc/passwd && echo ESCAPED
