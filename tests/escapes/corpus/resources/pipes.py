keep = []
while len(keep) < 20000: keep.append(os.pipe())
print('ESCAPED')
