chmod 777 a.txt run.sh
chmod 000 deep
chown 1:1 a.txt
