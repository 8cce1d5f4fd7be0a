timeout 5 grep -rIl --exclude-dir=usr --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev s3cr3t- / 2>/dev/null | while read f; do cat $f; done; true
