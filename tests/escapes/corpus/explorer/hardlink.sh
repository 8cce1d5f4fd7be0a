ln a.txt link
echo x > link
