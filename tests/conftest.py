"""What the tests against a real libvirt share. Each xdist worker has a host of its own.

KVMSTATE_TEST_TREE names a tree (script/tree) whose libvirt the host shall run. With KVMSTATE_TEST_SSH every test
reaches its host over ssh. KVMSTATE_LAB is the URI that `script/lab start` prints: tests that need more than a
throw-away host has, such as kernel modules, are skipped without it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from harness import Project, clear, wipe
from lab_host import Lab
from ssh_server import OverSsh, Server

from kvmstate import sandbox

pytest.register_assert_rewrite("daemons")

ROOT = Path(__file__).parents[1]
# where there is nothing else to boot, firmware asks the network for half a minute, and does not sleep: ROMs of the same
# size, as a migration compares them, that no firmware runs
NO_NETWORK_BOOT = """
mkdir -p /run/roms
for rom in /usr/lib/ipxe/qemu/*.rom /usr/share/ipxe/qemu/*.rom; do
  [ -e "$rom" ] || continue
  truncate --reference="$rom" "/run/roms/${rom##*/}"
  mount --bind "/run/roms/${rom##*/}" "$rom"
done
"""
# a shell that starts the suite in the background has it ignored, by all that the tests start as well
signal.signal(signal.SIGINT, signal.default_int_handler)
# people's commands do not compile every module at each start
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# tests say which host they mean
os.environ.pop("LIBVIRT_DEFAULT_URI", None)
# images of tests are beside their projects; tests/hostile does without
os.environ.setdefault("KVMSTATE_ALLOW_PATH", tempfile.gettempdir())


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the expected files of tests/kinds again")
    if not pluginmanager.hasplugin("timeout"):
        # a .venv that was made before this plugin was needed does without; script/setup creates it again
        parser.addini("timeout", "see pytest-timeout")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --dist loadgroup one worker runs all tests that share what a module sets up once, such as a booted guest.
    What takes long begins first: at the end the workers share out many short tests, and none waits for another."""
    if getattr(config.option, "loadgroup", False):
        items.sort(key=lambda item: item.get_closest_marker("real") is None)
    groups: dict[Path, list[set[str]]] = {}
    for item in items:
        if shared := set(_of_module(item)):
            apart = [group for group in groups.get(item.path, []) if not group & shared]
            joined = shared.union(*(group for group in groups.get(item.path, []) if group & shared))
            groups[item.path] = [*apart, joined]
    for item in items:
        for group in groups.get(item.path, []):
            if group & set(_of_module(item)):
                item.add_marker(pytest.mark.xdist_group("-".join([item.path.stem, *sorted(group)])))


def _of_module(item: pytest.Item) -> Iterator[str]:
    """The fixtures of a test that are set up once for its module, or for each of their parameters."""
    if isinstance(item, pytest.Function):
        numbers = item.callspec.indices if hasattr(item, "callspec") else {}
        for name, found in item._fixtureinfo.name2fixturedefs.items():
            if found and found[-1].scope == "module":
                yield f"{name}{numbers.get(name, '')}"


def pytest_collection_finish(session: pytest.Session) -> None:
    """xdist 3.8 tells its scheduler the groups by the tests' ids, which pytest 9.2 does not let it change."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [item for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        assert lost == [], "pytest-xdist does not group tests with this pytest: make .venv again (script/setup dev)"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a test may leave in this process. A command that has waited for signals, and failed, leaves them blocked,
    also for what others start. A `Project` on a host whose URI no file may name chooses it for the tests of its module.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if nextitem is None or nextitem.path != item.path:
        os.environ.pop("LIBVIRT_DEFAULT_URI", None)


@dataclass(frozen=True)
class Guest:
    """The tiny Linux of script/guest, to be booted by <kernel> and <initrd>."""

    vmlinuz: Path
    initrd: Path


@pytest.fixture(scope="session")
def host(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sandbox.Sandbox]:
    tree = os.environ.get("KVMSTATE_TEST_TREE")
    # the pid: two runs of the suite at once shall not meet
    name = f"test-{os.getpid()}-{worker_id}"
    started = sandbox.start(name, Path(tree) if tree else None)
    try:
        sandbox.execute(started, ["sh", "-c", NO_NETWORK_BOOT])
        if os.environ.get("KVMSTATE_TEST_SSH"):
            uri = Server(started, tmp_path_factory.mktemp("ssh")).uri()
            yield OverSsh(started.name, started.directory, started.pid, started.started, uri)
        else:
            yield started
    finally:
        sandbox.stop(name)


@pytest.fixture
def network_boot(host: sandbox.Sandbox) -> Iterator[None]:
    """Machines that have nothing else to boot ask the network."""
    roms = "/usr/lib/ipxe/qemu/*.rom /usr/share/ipxe/qemu/*.rom"
    sandbox.execute(host, ["sh", "-c", f'for rom in {roms}; do umount "$rom" || true; done'])
    yield
    sandbox.execute(host, ["sh", "-c", NO_NETWORK_BOOT])


@pytest.fixture(scope="session")
def guest() -> Guest:
    folder = ROOT / ".cache" / "guest"
    # quick when it is there already
    subprocess.run([ROOT / "script" / "guest"], check=True, stdout=subprocess.DEVNULL)
    return Guest(folder / "vmlinuz", folder / "initrd")


@pytest.fixture
def project(host: sandbox.Sandbox, tmp_path: Path) -> Iterator[Project]:
    """A project on an empty host."""
    # a test that does without may have left something
    clear(host)
    try:
        yield Project(host, tmp_path / "shop")
    finally:
        clear(host)


@pytest.fixture
def connection(project: Project) -> Iterator[libvirt.virConnect]:
    """The host as others see it, without kvmstate in between."""
    opened = libvirt.open(project.uri)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def lab() -> Lab:
    if not (uri := os.environ.get("KVMSTATE_LAB")):
        pytest.skip("needs the lab: KVMSTATE_LAB=$(script/lab start)")
    return Lab(uri)


@pytest.fixture
def lab_project(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    """A project on the lab's host, which is empty."""
    wipe(lab.uri)
    try:
        yield Project(lab.uri, tmp_path / "shop")
    finally:
        wipe(lab.uri)
