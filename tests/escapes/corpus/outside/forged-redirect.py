os.mkdir('r'); os.setxattr('r', 'user.overlay.redirect', OUT.encode())
print(os.listdir('r'))
