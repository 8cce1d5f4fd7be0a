echo x > ../outside.txt
echo x > ../../x
rm -rf ../journal.db
