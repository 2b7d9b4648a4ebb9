"""`kvmstate service` writes units that systemd accepts, and that release all they do not need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import Run, kvmstate

systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
UNITS = "etc/systemd/system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def service(verb: str, root: Path, *options: str, project: str = "lab") -> Run:
    return kvmstate("service", verb, "--project", project, "--root", str(root), *options)


def drop_in(root: Path, project: str = "lab") -> str:
    return (root / UNITS / f"kvmstate@{project}.service.d" / "10-project.conf").read_text()


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@systemd
def test_the_units_are_correct_and_let_go_of_all_that_is_not_needed(root: Path) -> None:
    installed = service("install", root, "-c", "qemu:///system")
    assert installed.code == 0, installed
    verified = analyze("verify", "--man=no", f"{root / UNITS}/kvmstate@lab.service")
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = analyze("security", "--offline=true", f"--root={root}", "--threshold=20", "kvmstate@lab.service")
    assert exposed.returncode == 0, exposed.stdout


@systemd
def test_the_unit_of_the_hosts_guests_is_correct_and_lets_go_of_all_that_is_not_needed(root: Path) -> None:
    def guests(verb: str, *options: str) -> Run:
        return kvmstate("service", "guests", verb, "--root", str(root), *options)

    installed = guests("install", "-c", "qemu+ssh://kvm1/system?keyfile=/root/%20key", "--user", "operator")
    assert installed.code == 0, installed
    assert installed.out == f"wrote {root / UNITS / 'kvmstate-guests.service'}\n"
    unit = root / UNITS / "kvmstate-guests.service"
    verified = analyze("verify", "--man=no", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = analyze("security", "--offline=true", f"--root={root}", "--threshold=20", unit.name)
    assert exposed.returncode == 0, exposed.stdout
    text = unit.read_text()
    assert "User=operator\n" in text
    assert "keyfile=/root/%%20key" in text
    unit.write_text(text.replace("TimeoutStopSec=30min", "TimeoutStopSec=9min"))
    assert "was edited: nothing was written" in guests("install").err
    assert guests("uninstall").out == f"left {unit}: it was edited\n"
    assert guests("uninstall", "--force").out == f"removed {unit}\n"
    assert "there is no such service" in guests("uninstall").err


def test_what_is_there_already_is_not_written_again(root: Path) -> None:
    assert service("install", root).out.count("wrote ") == 3
    again = service("install", root)
    assert again.out.count("unchanged ") == 3, again
    assert "wrote" not in again.out


def test_what_a_person_edited_is_overwritten_only_by_force(root: Path) -> None:
    service("install", root)
    unit = root / UNITS / "kvmstate@.service"
    edited = unit.read_text().replace("RestartSec=10s", "RestartSec=1s")
    unit.write_text(edited)
    refused = service("install", root, "-c", "qemu:///system")
    assert refused.code == 1
    assert f"{unit} was edited: nothing was written" in refused.err
    assert unit.read_text() == edited
    assert "qemu" not in drop_in(root)
    assert service("install", root, "--force").code == 0
    assert "RestartSec=10s" in unit.read_text()


def test_it_runs_with_what_run_would_be_given(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("id", "hosts"):
        (tmp_path / name).touch()
    given = ["--git", "git@host:a b.git", "--ssh-key", "id", "--known-hosts=hosts", "--set", "cost=50% of $10"]
    assert service("install", root, *given).code == 0
    lines = drop_in(root).splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=/"))
    assert command.endswith(
        f'kvmstate run --git "git@host:a b.git" --ssh-key %d/ssh-key --known-hosts {tmp_path}/hosts '
        '--set "cost=50%% of $$10"'
    )
    assert f"LoadCredential=ssh-key:{tmp_path}/id" in lines


def test_secrets_of_notifications_are_handed_over(root: Path) -> None:
    assert service("install", root, "--credential", "slack:/etc/kvmstate/slack").code == 0
    assert "LoadCredential=slack:/etc/kvmstate/slack" in drop_in(root).splitlines()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--credential", "/etc/kvmstate/slack"], "expected NAME:FILE"),
        (["--braanch", "main"], "No such option '--braanch'"),
        (["--git", "https://host/lab.git", "--manifests", "lab"], "either from a folder or from --git"),
        (["--connect"], "requires an argument"),
    ],
)
def test_what_run_does_not_take_is_refused_before_anything_is_written(root: Path, given: list[str], says: str) -> None:
    refused = service("install", root, *given)
    assert refused.code == 1
    assert says in refused.err
    assert not root.exists()


def test_a_project_whose_name_is_a_path_is_refused(root: Path) -> None:
    assert "letters, digits" in service("install", root, project="../lab").err


def test_manifests_at_home_are_seen(root: Path) -> None:
    service("install", root, "--manifests", "/home/ann/lab")
    assert "ProtectHome=read-only" in drop_in(root)


@pytest.mark.skipif(not shutil.which("systemctl"), reason="systemctl is not on this machine")
def test_the_template_goes_with_the_last_project(root: Path) -> None:
    for project in ("lab", "shop"):
        assert service("install", root, "--enable", project=project).code == 0
    wanted = root / UNITS / "multi-user.target.wants"
    assert {path.name for path in wanted.iterdir()} == {"kvmstate@lab.service", "kvmstate@shop.service"}
    assert service("uninstall", root, project="lab").code == 0
    assert drop_in(root, "shop")
    assert (root / UNITS / "kvmstate@.service").exists()
    assert service("uninstall", root, project="shop").code == 0
    assert not [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]
    assert "there is no service of shop" in service("uninstall", root, project="shop").err


def test_show_prints_it_and_writes_nothing(root: Path) -> None:
    shown = service("show", root, "--manifests", "/srv/lab")
    assert "[Install]\nWantedBy=multi-user.target\n" in shown.out
    assert "run /srv/lab\n" in shown.out
    assert not root.exists()
