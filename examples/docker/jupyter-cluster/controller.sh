#!/bin/sh
# A controller that listens on the loopback interface, and an ssh server through which everybody reaches it. CONTROLLER_HOST and
# CONTROLLER_PORT are what this container's port 22 is called from outside; who has the key in /root/.ssh/id_rsa gets in.
# A container that is started again has the same keys and files: engines that wait for it, and files that were copied, stay good.
set -eu
: "${CONTROLLER_HOST:?the address at which engines and clients reach this machine}" "${CONTROLLER_PORT:?the port there that leads to port 22 here}"
umask 077
mkdir -p /root/.ssh /run/sshd
[ -f /root/.ssh/id_rsa ] || ssh-keygen -q -t rsa -N '' -f /root/.ssh/id_rsa
cp /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys
ssh-keygen -A >/dev/null
/usr/sbin/sshd -o UseDNS=no -o MaxStartups=200
server=root@$CONTROLLER_HOST:$CONTROLLER_PORT
exec ipcontroller --reuse --ssh="$server" --enginessh="$server"
