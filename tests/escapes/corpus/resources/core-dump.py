import subprocess
subprocess.run(['ulimit -c unlimited; kill -SEGV $$'], shell=True)
print('ESCAPED' if [n for n in os.listdir('.') if n.startswith('core')] else 'none')
