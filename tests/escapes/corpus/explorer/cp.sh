cp run.sh a.txt
cp -al deep copy
echo x > copy/b.txt
