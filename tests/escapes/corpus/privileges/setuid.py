ids = {0: 1}.get(os.getuid(), 0)
for call in (os.setuid, os.setgid):
    try: call(ids); print('ESCAPED')
    except OSError: pass
try: os.setgroups([0, 27]); print('ESCAPED')
except OSError: pass
