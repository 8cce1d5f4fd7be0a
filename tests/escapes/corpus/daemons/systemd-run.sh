systemd-run --user sleep 120 && echo ESCAPED
systemd-run sleep 120 && echo ESCAPED
