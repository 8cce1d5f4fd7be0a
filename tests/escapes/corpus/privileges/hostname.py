socket.sethostname('escaped'); print('changed, inside alone')
