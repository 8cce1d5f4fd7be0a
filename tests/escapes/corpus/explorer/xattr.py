os.setxattr('a.txt', 'user.overlay.opaque', b'y')
