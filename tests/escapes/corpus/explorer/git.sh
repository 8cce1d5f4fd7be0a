git init -q . && git add -A && git -c user.name=x -c user.email=x commit -qm x
