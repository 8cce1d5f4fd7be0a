echo x >> a.txt
