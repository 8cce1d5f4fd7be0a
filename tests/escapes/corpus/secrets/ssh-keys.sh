cat "$OUT"/home/.ssh/* ~/.ssh/* /root/.ssh/* /home/*/.ssh/*
