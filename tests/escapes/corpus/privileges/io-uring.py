print('ESCAPED' if C.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0 else 'refused')
