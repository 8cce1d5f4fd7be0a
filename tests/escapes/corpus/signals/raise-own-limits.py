for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA):
    s, h = resource.getrlimit(what)
    try: resource.setrlimit(what, (h + 1, h + 1)); print('ESCAPED', what)
    except (OSError, ValueError): pass
