for name in (b'new\nline', b'tab\t', b'\xff\xfe', b'-rf', b'--', b'$(x)', b'a\x1b[2J', b' ', b'...', b'*'):
    open(name, 'w').close()
