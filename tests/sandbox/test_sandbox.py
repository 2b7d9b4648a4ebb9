"""The life of throw-away hosts, with real daemons."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmstate import sandbox
from kvmstate.sandbox import folder, needs
from kvmstate.sandbox.lifecycle import CAPABILITIES

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
RUN = "import sys; from kvmstate import sandbox; sys.exit(sandbox.run(sys.argv[1:]))"


def name(role: str) -> str:
    return f"{role}-{os.getpid()}"


def eventually(holds: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def processes_that_mention(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (path / "mountinfo").read_text()
        except OSError:
            continue
        if text in command or text in mounts:
            found.append(f"{path.name} {command}")
    return found


@pytest.fixture(scope="module")
def one() -> Iterator[sandbox.Sandbox]:
    host = sandbox.start(name("one"))
    yield host
    if host.is_running:
        sandbox.stop(host.name)


def virsh(host: sandbox.Sandbox, *words: str) -> str:
    done = subprocess.run(["virsh", "-c", host.uri, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_started_host_answers_at_its_uri_and_has_its_own_name(one: sandbox.Sandbox) -> None:
    assert virsh(one, "hostname") == one.name


def test_a_started_host_is_listed_and_found(one: sandbox.Sandbox) -> None:
    assert one in sandbox.running()
    assert sandbox.find(one.name) == one


def test_a_started_host_is_empty(one: sandbox.Sandbox) -> None:
    assert virsh(one, "list", "--all", "--name") == ""
    assert virsh(one, "net-list", "--all", "--name") == ""


def test_a_name_is_taken_only_once(one: sandbox.Sandbox) -> None:
    with pytest.raises(sandbox.SandboxError, match="running already"):
        sandbox.start(one.name)


def test_commands_run_inside_and_hand_back_their_code(one: sandbox.Sandbox) -> None:
    inside = 'test "$(hostname)" = "$0" && test ! -e /dev/kvm && virsh uri >/dev/null && exit 9'
    assert sandbox.execute(one, ["sh", "-c", inside, one.name]) == 9


def test_nothing_leaves_the_host(one: sandbox.Sandbox) -> None:
    only_loopback = 'test "$(ls /sys/class/net)" = lo && test -z "$(ip route)"'
    assert sandbox.execute(one, ["sh", "-c", only_loopback]) == 0


def test_libvirtd_comes_back_when_it_dies(one: sandbox.Sandbox) -> None:
    # one that ends at once is given up
    lasts = 'test "$(ps -o etimes= -p "$(cat /run/libvirtd.pid)")" -ge 3'
    assert eventually(lambda: sandbox.execute(one, ["sh", "-c", lasts]) == 0)
    assert sandbox.execute(one, ["sh", "-c", "kill -KILL $(cat /run/libvirtd.pid)"]) == 0
    answers = ["virsh", "-c", one.uri, "version"]
    assert eventually(lambda: subprocess.run(answers, capture_output=True, check=False).returncode == 0)


def test_two_hosts_have_different_uuids(one: sandbox.Sandbox) -> None:
    other = sandbox.start(name("two"))
    try:
        uuids = {re.findall("<uuid>(.*?)</uuid>", virsh(host, "capabilities"))[0] for host in (one, other)}
    finally:
        sandbox.stop(other.name)
    assert len(uuids) == 2
    assert not other.is_running
    assert not other.directory.exists()


def test_what_one_host_knows_of_qemu_another_need_not_ask(one: sandbox.Sandbox) -> None:
    virsh(one, "capabilities")
    other = sandbox.start(name("two"))
    try:
        known = list((other.directory / CAPABILITIES).iterdir())
        assert known
        written = [file.stat().st_mtime_ns for file in known]
        assert virsh(other, "domcapabilities")
        assert [file.stat().st_mtime_ns for file in known] == written
    finally:
        sandbox.stop(other.name)


def test_stopping_what_does_not_run_says_so() -> None:
    with pytest.raises(sandbox.SandboxError, match="no sandbox 'nobody' is running"):
        sandbox.stop("nobody")


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "-x", "x" * 41])
def test_names_that_are_no_folder_names_are_refused(bad: str) -> None:
    with pytest.raises(sandbox.SandboxError, match="cannot be called"):
        sandbox.find(bad)


def test_run_hands_back_the_code_and_leaves_nothing() -> None:
    script = "virsh uri >/dev/null && virsh hostname | grep -q run- && exit 5"
    assert sandbox.run(["sh", "-c", script]) == 5
    assert not (folder.base() / f"run-{os.getpid()}").exists()


def test_run_forwards_signals() -> None:
    command = ["sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.1; done"]
    process = subprocess.Popen([sys.executable, "-c", RUN, *command], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.wait(20) == 42
    process.stdout.close()


DOMAIN = """<domain type='qemu'><name>left</name><memory unit='MiB'>32</memory>
<os><type>hvm</type></os></domain>"""


def test_a_killed_run_leaves_no_process_no_mount_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "left.xml").write_text(DOMAIN)
    command = ["sh", "-c", f"virsh create {tmp_path}/left.xml >&2 && echo up && sleep 60"]
    process = subprocess.Popen([sys.executable, "-c", RUN, *command], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    directory = folder.base() / f"run-{process.pid}"
    assert processes_that_mention(str(directory))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert eventually(lambda: not directory.exists() and not processes_that_mention(str(directory)))


def test_what_a_dead_host_left_is_swept_up() -> None:
    host = sandbox.start(name("dead"))
    os.kill(host.pid, signal.SIGKILL)
    assert eventually(lambda: not host.is_running)
    assert host.directory.exists()
    assert host not in sandbox.running()
    assert not host.directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a pid namespace; CI is root")
def test_what_runs_in_another_pid_namespace_is_left_alone(one: sandbox.Sandbox) -> None:
    code = "from kvmstate.sandbox import *; print([host.name for host in running()]); start('{}')"
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code.format(one.name)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
    assert "was started in another container of this machine" in done.stderr
    assert one.directory.exists()
    assert one in sandbox.running()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "PATH", "/nowhere")
    with pytest.raises(sandbox.SandboxError, match="libvirtd") as caught:
        sandbox.start(name("poor"))
    assert "apt install" in caught.value.hint
    assert "libvirt-daemon-system" in caught.value.hint
    assert "dnf install" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_needs_no_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    user = "kvmstate-test"
    if subprocess.run(["id", user], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "--create-home", user], check=True)
    if f"{user}:" not in Path("/etc/subuid").read_text():
        ranges = ["--add-subuids", "700000-765535", "--add-subgids", "700000-765535"]
        subprocess.run(["usermod", *ranges, user], check=True)
    # neither this checkout nor this Python need be readable by others; the package needs only Python itself
    home = Path(f"/home/{user}")
    package = home / "package" / "kvmstate"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for file in ("__init__.py", "errors.py", "pids.py"):
        shutil.copy(ROOT / "kvmstate" / file, package / file)
    shutil.copytree(ROOT / "kvmstate" / "sandbox", package / "sandbox")
    (home / "left.xml").write_text(DOMAIN)
    subprocess.run(["chmod", "-R", "a+rX", str(home)], check=True)
    script = "id -u; virsh create left.xml >&2 && virsh list --name"
    as_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env"]
    python = ["env", f"PYTHONPATH={home}/package", "/usr/bin/python3", "-c", RUN]
    done = subprocess.run(
        [*as_user, *python, "sh", "-c", script],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if subprocess.run([*as_user, "unshare", "--user", "true"], capture_output=True, check=False).returncode:
        # nothing can be done about it, and the user is told so
        assert "hint: namespaces are forbidden here: not in a chroot" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    uid, guest = done.stdout.split()
    assert uid != "0"
    assert guest == "left"
    assert not list(Path(f"/var/tmp/kvmstate-sandbox-{uid}").glob("run-*"))
