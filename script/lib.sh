# shellcheck shell=bash
# What the scripts share. Source it first: . "$(dirname "$0")/lib.sh"
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# an ordinary user's PATH lacks the folders of daemons
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# containers have this often: each of the suite's thousands of processes would compile every module again
unset PYTHONDONTWRITEBYTECODE
cd "$ROOT"

say() { echo "$*" >&2; }

fail() { # MESSAGE [HINT]
  say "error: $1"
  [[ -z ${2:-} ]] || say "hint: $2"
  exit 1
}

have() { command -v "$1" >/dev/null; }

# one of: debian, fedora
family() {
  if have apt-get; then echo debian; elif have dnf; then echo fedora; else
    fail "this machine has neither apt nor dnf" "install what script/setup lists by hand"
  fi
}

sudo_() { # a command as root
  if ((EUID == 0)); then
    "$@"
  else
    have sudo || fail "root is needed for: $*" "install sudo, or run this script as root once"
    sudo "$@"
  fi
}

# the packages of those named that are not installed
missing_packages() {
  local package
  for package in "$@"; do
    if [[ $(family) == debian ]]; then
      [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    else
      rpm -q --quiet --whatprovides "$package" || echo "$package"
    fi
  done
}

need_packages() { # install those that are missing
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  say "installing: ${missing[*]}"
  if [[ $(family) == debian ]]; then
    sudo_ apt-get -qq update >&2
    sudo_ env DEBIAN_FRONTEND=noninteractive apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends \
      "${missing[@]}" >&2
  else
    sudo_ dnf -qy install --setopt=install_weak_deps=False "${missing[@]}" >&2
  fi
}

stage() { # NAME COMMAND...: runs it, tells its time
  local name=$1 since=$EPOCHREALTIME code=0
  shift
  say "== $name"
  "$@" || code=$?
  printf '== %s: %s in %.1f s\n' "$name" "$( ((code)) && echo "FAILED ($code)" || echo ok)" \
    "$(awk "BEGIN{print $EPOCHREALTIME - $since}")" >&2
  return "$code"
}

make_tree() { # FOLDER SUITE PACKAGE...: a Debian tree of its own, with no daemon started
  local tree=$1 suite=$2 file
  shift 2
  [[ -x $tree/usr/bin/apt-get ]] || debootstrap --variant=minbase "$suite" "$tree" >&2
  # no package may start a daemon
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod +x "$tree/usr/sbin/policy-rc.d"
  # the machine's way to its packages: resolver, proxies, certificates
  cp -L /etc/resolv.conf "$tree/etc/"
  for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/99*; do
    [[ ! -f $file ]] || cp "$file" "$tree/etc/apt/apt.conf.d/"
  done
  if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
    mkdir -p "$tree/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
  fi
  # /proc only in a mount namespace: nothing stays mounted when this is interrupted
  # shellcheck disable=SC2016 # the inner shell expands it
  tree=$tree unshare --mount bash -euc '
    mount -t proc proc "$tree/proc"
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    chroot "$tree" apt-get -qq update
    chroot "$tree" apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"' - "$@" >&2
}

tree() { # FOLDER SUITE PACKAGE...: made once, again when it is to hold something else; needs root
  local tree=$1
  [[ $(cat "$tree/made-of" 2>/dev/null) != "${*:3}" ]] || return 0
  ((EUID == 0)) || fail "a tree needs root" "sudo KVMSTATE_TREE=$tree $0"
  need_packages debootstrap
  say "making a tree in $tree"
  mkdir -p "$tree"
  make_tree "$@"
  echo "${*:3}" >"$tree/made-of"
}
