ln -s "$PWD/a.txt" link
echo x > link
