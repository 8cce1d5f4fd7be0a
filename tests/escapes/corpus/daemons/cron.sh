echo '* * * * * touch /tmp/x' | crontab - && echo ESCAPED; echo 'touch /tmp/x' | at now && echo ESCAPED; ls /var/spool/cron && echo ESCAPED
