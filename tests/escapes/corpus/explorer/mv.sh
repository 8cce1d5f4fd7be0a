mv a.txt z.txt
mv deep deeper
