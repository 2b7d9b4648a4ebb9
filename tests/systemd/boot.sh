#!/usr/bin/env bash
# boot.sh TREE FOLDER CGROUP: boots the systemd of a tree in namespaces of its own. What it writes is in memory and gone
# with it: with the end of this process all ends.
set -euo pipefail
echo $$ >"$3/cgroup.procs"
# shellcheck disable=SC2016 # the inner shell expands it
exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child bash -euc '
  tree=$1 folder=$2
  mount -t tmpfs box "$folder"
  mkdir "$folder"/{upper,work,root}
  mount -t overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" box "$folder/root"
  cd "$folder/root"
  mount -t proc proc proc
  mount -t sysfs -o ro sys sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs dev dev
  for node in null zero full random urandom tty net/tun; do
    mkdir -p "$(dirname "dev/$node")"
    : >"dev/$node"
    # no /dev/kvm: one that does not work holds libvirt up
    mount --bind "/dev/$node" "dev/$node"
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
  mount -t tmpfs shm dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  for number in 0 1 2; do ln -s "fd/$number" "dev/$(set -- stdin stdout stderr; shift "$number"; echo "$1")"; done
  mount -t tmpfs run run
  ln -sf /dev/null etc/systemd/system/console-getty.service
  hostname box
  echo "127.0.0.1 localhost box" >etc/hosts
  ip link set lo up
  pivot_root . mnt
  umount -l /mnt
  # as systemd does itself where it is no container: what it mounts for a service, such as credentials, is seen there
  mount --make-rshared /
  exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal
' - "$1" "$2"
