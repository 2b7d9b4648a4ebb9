"""A log-in by ssh over a vsock, without any network: by libvirt's proxy, which Debian has since 13, in the lab,
whose kernel has vhost_vsock. The proxy, and the libraries that it was built with, come from a tree (script/tree)."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import QUICK, ROOT, Project, resource, until
from lab_host import Lab

if TYPE_CHECKING:
    from tests.conftest import Guest

FOLDER = "/srv/lab/vsock"
PROXY = "usr/lib/libvirt/libvirt-ssh-proxy"
# As systemd 256 does it: each connection to this port is a server's standard input and output
LISTENER = r"""
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_vm at = {.svm_family = AF_VSOCK, .svm_port = 22, .svm_cid = VMADDR_CID_ANY};
  int listening = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 8)) return 1;
  signal(SIGCHLD, SIG_IGN);
  write(1, "guest: listens\n", 15);
  for (;;) {
    int peer = accept(listening, 0, 0);
    if (peer >= 0 && !fork()) {
      signal(SIGCHLD, SIG_DFL);
      dup2(peer, 0), dup2(peer, 1);
      execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-i", "-f", "/ssh/config", (char *)0);
      return 1;
    }
    close(peer);
  }
}
"""
# beside what the tiny Linux does itself
INIT = """#!/bin/sh
export PATH=/bin:/sbin
mount -t devtmpfs dev /dev
(
  until [ -e /proc/cpuinfo ]; do sleep 0.2; done
  while read -r module; do insmod "$module"; done </vsock/list
  exec /listener </dev/null
) &
exec /init
"""
SSHD = "HostKey /ssh/host\nAuthorizedKeysFile /ssh/id.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
PASSWD = "root::0:0::/:/bin/sh\nsshd:*:74:74::/run/sshd:/bin/false\n"


def libraries(program: Path, root: Path = Path("/")) -> list[str]:
    """All that the program loads, its loader too, as paths below `root`."""
    listed = ["chroot", root, "ldd", f"/{program.relative_to(root)}"] if root != Path("/") else ["ldd", program]
    said = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def packed(folder: Path) -> bytes:
    """As the kernel unpacks it, one over the other."""
    names = "find . | cpio -o -H newc --quiet -R 0:0"
    return subprocess.run(["sh", "-c", names], cwd=folder, check=True, capture_output=True).stdout


@pytest.fixture
def initrd(guest: Guest, tmp_path: Path) -> bytes:
    """The tiny Linux, with an ssh server that listens on its vsock."""
    root = tmp_path / "root"
    for folder in ("ssh", "etc", "run/sshd", "usr/sbin"):
        (root / folder).mkdir(parents=True)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "ssh" / name], check=True)
    shutil.move(root / "ssh" / "id", tmp_path / "id")
    shutil.copy(root / "ssh" / "host.pub", tmp_path / "host.pub")
    (root / "ssh" / "config").write_text(SSHD)
    (root / "etc" / "passwd").write_text(PASSWD)
    (root / "init-vsock").write_text(INIT)
    (root / "init-vsock").chmod(0o755)
    (tmp_path / "listener.c").write_text(LISTENER)
    compiler = ["gcc", "-static", "-O1", "-w", "-o", root / "listener", tmp_path / "listener.c"]
    subprocess.run(compiler, check=True)
    for path in ("/usr/sbin/sshd", *libraries(Path("/usr/sbin/sshd"))):
        subprocess.run(["cp", "-L", "--parents", path, root], check=True)
    return guest.initrd.read_bytes() + guest.initrd.with_name("initrd-vsock").read_bytes() + packed(root)


@pytest.fixture
def client(lab: Lab, tmp_path: Path) -> Iterator[str]:
    """What kvmstate is called by in the lab, which has the proxy of a newer libvirt."""
    tree = os.environ.get("KVMSTATE_TEST_TREE")
    if not tree or not (Path(tree) / PROXY).exists():
        pytest.skip("needs libvirt-ssh-proxy: KVMSTATE_TEST_TREE=$(script/tree)")
    of, needs = Path(tree), libraries(Path(tree) / PROXY, Path(tree))
    site = Path(sysconfig.get_path("purelib"))
    files = [(of / PROXY, "proxy"), *((of / each[1:], f"lib/{Path(each).name}") for each in needs)]
    left_out = ("mypy", "ruff", "_p")
    files += [(each, f"python/{each.name}") for each in site.iterdir() if not each.name.startswith(left_out)]
    files += [(ROOT / "kvmstate", "python/kvmstate")]
    with io.BytesIO() as content:
        with tarfile.open(fileobj=content, mode="w") as tar:
            for path, name in files:
                tar.add(path.resolve(), name)
        lab.run(f"mkdir -p {FOLDER}")
        lab.put("/srv/lab/vsock.tar", content.getvalue())
    loader = next(Path(each).name for each in needs if Path(each).name.startswith("ld-"))
    wrapper = f'#!/bin/sh\nexec {FOLDER}/lib/{loader} --library-path {FOLDER}/lib {FOLDER}/proxy "$@"\n'
    lab.run(f"tar -C {FOLDER} -xf /srv/lab/vsock.tar && rm /srv/lab/vsock.tar")
    lab.put(f"/{PROXY}", wrapper.encode())
    for config in (of / "etc/ssh/ssh_config.d").glob("*libvirt*"):
        lab.put(f"/etc/ssh/ssh_config.d/{config.name}", config.read_bytes())
    lab.run(f"chmod 755 /{PROXY}")
    yield f"PYTHONPATH={FOLDER}/python python3 -c 'from kvmstate.cli import main; main()'"
    lab.run(f"rm -rf {FOLDER} /{PROXY} /etc/ssh/ssh_config.d/*libvirt*", False)


@pytest.mark.timeout(1800)
def test_a_machine_without_a_network_is_logged_in_to(
    lab: Lab, lab_project: Project, guest: Guest, initrd: bytes, client: str, tmp_path: Path
) -> None:
    lab.run(f"modprobe vhost_vsock; rm -f {FOLDER}.log")
    lab.put(f"{FOLDER}/vmlinuz", guest.vmlinuz.read_bytes())
    lab.put(f"{FOLDER}/initrd", initrd)
    lab.put(f"{FOLDER}/id", (tmp_path / "id").read_bytes())
    lab.put(f"{FOLDER}/known", b"qemu/tiny " + (tmp_path / "host.pub").read_bytes())
    lab.run(f"chmod 600 {FOLDER}/id")
    kernel = {"path": f"{FOLDER}/vmlinuz", "initrd": f"{FOLDER}/initrd", "cmdline": f"{QUICK} rdinit=/init-vsock"}
    log = "/var/log/libvirt/qemu/vsock-console.log"
    tiny = resource(
        "VirtualMachine", "tiny", memory="192MiB", kernel=kernel, serials=[{"port": 0, "log": log}], vsock={}
    )
    lab_project.converge(tiny)
    until(lambda: lab.run(f"grep listens {log}", check=False), lambda: lab.run(f"tail -n 5 {log}", check=False), 900)
    options = f"-c qemu:///system -i {FOLDER}/id -o UserKnownHostsFile={FOLDER}/known"
    printed = lab.run(f"{client} vm ssh --print root@tiny {options}")
    assert printed.endswith("-l root -i /srv/lab/vsock/id qemu/tiny"), printed
    # the server of an emulated machine in an emulated one takes its time
    options += " --connect-timeout 5m"
    said = lab.run(f"{client} vm ssh root@tiny {options} -- 'hostname; cat /sys/class/net/*/address'", timeout=600)
    assert said.splitlines() == ["tiny", "00:00:00:00:00:00"], said
