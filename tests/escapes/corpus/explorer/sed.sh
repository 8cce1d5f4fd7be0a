sed -i s/a/b/ a.txt
