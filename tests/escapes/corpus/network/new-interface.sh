ip link add v0 type veth peer name v1 && echo ESCAPED
ip addr add 10.9.9.9/24 dev lo && echo ESCAPED
ip link set lo down && echo ESCAPED
