for p in ('/var/run/docker.sock', '/run/containerd/containerd.sock', '/run/dbus/system_bus_socket'):
    if os.path.exists(p): print('ESCAPED', p)
