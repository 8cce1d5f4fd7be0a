echo x | tee a.txt deep/b.txt
