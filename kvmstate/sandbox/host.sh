#!/usr/bin/env bash
# A private, throw-away libvirt host in namespaces of its own; kvmstate.sandbox drives it.
#
#   host.sh start DIR NAME [TREE]   become the host NAME that lives in DIR
#   host.sh hold DIR NAME [TREE]    the same until standard input ends, then leave nothing behind
#   host.sh remove DIR              delete the folder of a host that is dead
#
# Root needs nothing else; an ordinary user becomes root of a user namespace (uidmap, a subuid range).
# TREE is the root folder of another Debian, whose libvirt and QEMU are used.
# With KVMSTATE_CGROUPS the guests have control groups (as root, where those of version 1 are mounted), which `remove`
# takes away.
# Killing pid 1 of the host (its number is in DIR/pid) ends every process and mount of it.
set -euo pipefail

main() { # a function, so that bash has read all of it before a tree replaces the root folder
  case $1 in
    start) enter "${@:2}" ;;
    hold) hold "${@:2}" ;;
    init) init "${@:2}" ;;
    remove) remove "$2" ;;
  esac
}

as_root=()
if ((EUID)); then
  # --map-auto: with one user only, QEMU fails at "cannot set supplemental groups"
  as_root=(unshare --user --map-root-user --map-auto)
fi

controllers=(blkio cpu cpuacct cpuset memory)

enter() {
  local groups=()
  [[ -z ${KVMSTATE_CGROUPS:-} ]] || { make_cgroups "$2" && groups=(--cgroup); }
  exec "${as_root[@]:-unshare}" "${groups[@]}" --mount --net --uts --ipc --pid --fork --kill-child \
    bash "$0" init "$@"
}

make_cgroups() { # NAME: groups of this shell's own, which are the roots of those in the host
  local each group name
  for each in "${controllers[@]}"; do
    group=/sys/fs/cgroup/$each/kvmstate-$1
    mkdir -p "$group"
    # without these no process may be in it
    for name in cpuset.cpus cpuset.mems; do
      [[ ! -e $group/$name ]] || cat "/sys/fs/cgroup/$each/$name" >"$group/$name"
    done
    echo $$ >"$group/cgroup.procs"
  done
}

mount_cgroups() {
  local each
  mount -t tmpfs cgroup /sys/fs/cgroup
  for each in "${controllers[@]}"; do
    mkdir "/sys/fs/cgroup/$each"
    mount -t cgroup -o "$each" cgroup "/sys/fs/cgroup/$each"
  done
}

hold() {
  local dir=$1 host pid
  bash "$0" start "$@" </dev/null &
  host=$!
  cat >/dev/null || :
  # pid 1 by preference: the kernel reports its end only after that of all processes in there
  read -r pid _ 2>/dev/null <"$dir/pid" || pid=$host
  kill -KILL "$pid" 2>/dev/null || :
  wait "$host" || :
  remove "$dir"
}

remove() {
  find /sys/fs/cgroup/*/"kvmstate-${1##*/}" -depth -type d -exec rmdir {} + 2>/dev/null || :
  rm -rf --one-file-system -- "$1" 2>/dev/null && return
  # once more as root of a user namespace: daemons leave files of subordinate users
  timeout --kill-after=1 60 "${as_root[@]}" rm -rf --one-file-system -- "$1"
}

init() {
  local dir=$1 name=$2 tree=${3:-} stat
  # /proc is still the caller's, so it shows this shell's pid as seen from outside.
  # The start time (field 22) tells a later process of the same number apart.
  read -r -a stat </proc/self/stat
  echo "${stat[0]} ${stat[21]}" >"$dir/pid.new"
  mv "$dir/pid.new" "$dir/pid"

  cd /
  hostname "$name"
  ip link set lo up
  mkdir -p "$dir"/{run/libvirt,run/lock,lib/images,etc/qemu,log/qemu,cache,dev}
  mount -t proc proc /proc
  # the caller's /sys shows the caller's network cards; where a new one is forbidden it has to do
  mount -t sysfs sysfs /sys 2>/dev/null || :
  [[ -z ${KVMSTATE_CGROUPS:-} ]] || mount_cgroups
  [[ -z $tree ]] || enter_tree "$tree" "$dir"
  make_dev "$dir/dev"
  configure "$dir"
  # libvirt looks its host name up at every start of a domain; without an answer it waits 14 s
  echo "127.0.0.1 localhost $name" >"$dir/hosts"
  mount --bind "$dir/hosts" /etc/hosts
  mount --bind "$dir/etc" /etc/libvirt
  mount --bind "$dir/lib" /var/lib/libvirt
  mount --bind "$dir/log" /var/log/libvirt
  mount --bind "$dir/cache" /var/cache/libvirt
  mount --bind "$dir/run" /run
  # on a terminal virsh would start it, and it complains that this host has no polkit
  [[ ! -x /usr/bin/pkttyagent ]] || mount --bind /dev/null /usr/bin/pkttyagent
  serve
}

serve() {
  virtlogd --daemon
  # Not exec: this shell is pid 1 and reaps the QEMU processes that libvirtd leaves behind, for which
  # libvirt 11 waits for ever otherwise. A libvirtd that ends is started again, as systemd does;
  # one that ends at once has a problem that a second try does not cure.
  local since
  while :; do
    since=$SECONDS
    libvirtd &
    wait $! || echo "libvirtd ended with code $?" >&2
    ((SECONDS - since >= 2)) || exit 1
  done
}

configure() {
  local dir=$1
  # qemu.conf: guests run as root of the host with all its rights, so they may read what the caller
  # may, and no file changes its owner. Owners that libvirt remembers (in xattrs) would outlive a host
  # that is killed, and then no other host may use the file: "already in use". No mount namespace for
  # each guest, as libvirt would try to move the bind mounts in /dev. No cgroups, unless asked for:
  # those of the machine outlive a host that is killed. Without that capability libvirt reads a guest's
  # CPU features with one question at its start, not with 400, which take longer than all the rest.
  cat >"$dir/etc/qemu.conf" <<-'CONF'
	user = "root"
	group = "root"
	dynamic_ownership = 0
	remember_owner = 0
	clear_emulator_capabilities = 0
	security_driver = "none"
	namespaces = []
	capability_filters = ["cpu-unavailable-features"]
	CONF
  local groups=
  [[ -z ${KVMSTATE_CGROUPS:-} ]] || groups=$(printf '"%s", ' "${controllers[@]}")
  echo "cgroup_controllers = [${groups%, }]" >>"$dir/etc/qemu.conf"
  # libvirtd.conf: no polkit here; the folder of the host (mode 700) says who may connect.
  # Without a UUID of its own a host has that of the machine, and migration refuses equal ones.
  cat >"$dir/etc/libvirtd.conf" <<-CONF
	auth_unix_ro = "none"
	auth_unix_rw = "none"
	unix_sock_ro_perms = "0700"
	unix_sock_rw_perms = "0700"
	host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
	CONF
  # the filters that every libvirt host knows (clean-traffic and so on), where they may be read
  cp -r /etc/libvirt/nwfilter "$dir/etc/" 2>/dev/null || :
}

make_dev() {
  # A /dev without kvm: one that exists and does not work makes libvirt probe QEMU again at every
  # define and start (4 to 40 s), and the same everywhere is better for tests than fast.
  local dev=$1 node
  mount -t tmpfs -o mode=755 dev "$dev"
  for node in null zero full random urandom tty fuse net/tun mapper/control loop-control loop{0..7}; do
    [[ -e /dev/$node ]] || continue
    mkdir -p "$dev/${node%"${node##*/}"}"
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
  done
  mkdir "$dev/pts" "$dev/shm"
  mount -t tmpfs shm "$dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 pts "$dev/pts"
  ln -s pts/ptmx "$dev/ptmx"
  ln -s /proc/self/fd "$dev/fd"
  ln -s /proc/self/fd/0 "$dev/stdin"
  ln -s /proc/self/fd/1 "$dev/stdout"
  ln -s /proc/self/fd/2 "$dev/stderr"
  mount --rbind "$dev" /dev
}

enter_tree() {
  # A new root folder: programs and settings (/usr, /etc, /var) are the tree's; all other folders and
  # /var/tmp are the machine's, so that files which manifests name are at the same place.
  local tree=$1 root=$2/root entry
  mkdir -p "$root"
  mount -t tmpfs -o mode=755 root "$root"
  for entry in "$tree"/{usr,etc,var,bin,sbin,lib*} /*; do
    local here=$root/${entry##*/}
    [[ ! -e $here && ! -L $here ]] || continue # of the tree: it comes first
    [[ $entry != /run ]] || { mkdir "$here" && continue; }
    if [[ -L $entry ]]; then
      cp -P "$entry" "$here"
    elif [[ -d $entry ]]; then
      mkdir "$here"
      mount --rbind "$entry" "$here"
    fi
  done
  # not --rbind: this root folder itself is mounted somewhere below
  mount --bind /var/tmp "$root/var/tmp"
  mkdir "$root/.machine"
  cd "$root"
  pivot_root . .machine
  # the shell's memory of where programs are is of the old root
  hash -r
  umount --lazy /.machine
  rmdir /.machine
}

main "$@"
