echo x > /usr/bin/x && echo ESCAPED
rm -f /usr/bin/env && echo ESCAPED
