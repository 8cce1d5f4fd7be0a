n = ctypes.create_string_buffer(64)
class V(ctypes.Structure): _fields_ = [('p', ctypes.c_void_p), ('n', ctypes.c_size_t)]
a, b = V(ctypes.addressof(n), 8), V(id(n), 8)
for pid in (int(E['VICTIM']), int(E['HARNESS'])):
    print('ESCAPED' if C.process_vm_readv(pid, ctypes.byref(a), 1, ctypes.byref(b), 1, 0) > 0 else 'refused')
