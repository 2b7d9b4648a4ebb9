"""Ctrl-C and SIGTERM: the first one finishes what runs, the second one ends at once; the next apply converges."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import MAIN, ROOT, Project, pool, resource, until
from trouble import IMAGE, silent, stalling_download

pytestmark = pytest.mark.real

LATER = resource("Volume", "layer", pool="images", backing="images/base")


class Terminal:
    """A command at a terminal of its own, where what is typed may be Ctrl-C."""

    def __init__(self, project: Project, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.said = ""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", sys.executable, "-c", MAIN, *words],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def sees(self, text: str) -> None:
        until(lambda: self._read() and text in self.said, f"{text!r} in {self.said}", 30)

    def types(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def hangs_up(self) -> None:
        os.close(self._master)

    def ends(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(10)

    def _read(self) -> bool:
        try:
            self.said += os.read(self._master, 65536).decode(errors="replace")
        except OSError:
            return False  # the last one has closed the terminal
        return True


def test_ctrl_c_finishes_what_runs_and_starts_no_more(project: Project) -> None:
    with stalling_download() as download:
        project.write(pool(), download.volume(), LATER)
        terminal = Terminal(project, "apply")
        terminal.sees("Enter a value")
        terminal.types("yes\n")
        assert download.halfway.wait(30)
        terminal.types("\x03")
        terminal.sees("interrupted: finishing what runs; once more to abort at once")
        download.goes_on.set()
        assert terminal.ends() == 130
    assert "skipped: volume/images/layer: interrupted" in terminal.said
    assert "Apply incomplete. Resources: 2 added" in terminal.said
    # what ran has been finished, and counts
    assert project.path("images/base").read_bytes() == IMAGE
    assert project.todo() == {"create": 1}
    with stalling_download() as download:
        project.converge()
        assert not download.halfway.is_set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_finishes_what_runs(project: Project, number: signal.Signals, code: int) -> None:
    with stalling_download() as download:
        project.write(pool(), download.volume(), LATER)
        applying = project.start_apply()
        assert download.halfway.wait(30)
        applying.send_signal(number)
        until(lambda: "interrupted: finishing" in project.log.read_text(), "it says that it was interrupted")
        download.goes_on.set()
        assert applying.wait(30) == code
    assert "skipped: volume/images/layer: interrupted" in project.log.read_text()
    assert project.path("images/base").read_bytes() == IMAGE


def test_a_terminal_that_goes_finishes_what_runs_and_leaves_no_lock(project: Project) -> None:
    """The kernel and the shell both send a SIGHUP then, and nobody reads any more what is said."""
    with stalling_download() as download:
        project.write(pool(), download.volume(), LATER)
        terminal = Terminal(project, "apply", "--auto-approve")
        assert download.halfway.wait(30)
        terminal.hangs_up()
        terminal.process.send_signal(signal.SIGHUP)
        terminal.process.send_signal(signal.SIGHUP)
        download.goes_on.set()
        assert terminal.process.wait(30) == 129
    assert project.path("images/base").read_bytes() == IMAGE
    assert "is not locked" in project.kvmstate("unlock").out
    # what had not begun has not been done
    assert project.todo() == {"create": 1}


def test_nohup_goes_on(project: Project) -> None:
    with stalling_download() as download:
        project.write(pool(), download.volume(), LATER)
        applying = project.start_apply(first="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
        assert download.halfway.wait(30)
        applying.send_signal(signal.SIGHUP)
        download.goes_on.set()
        assert applying.wait(30) == 0
    assert project.plan().code == 0


def test_the_second_ctrl_c_ends_at_once_even_while_libvirt_does_not_answer(project: Project) -> None:
    with stalling_download() as download:
        project.write(pool(), download.volume(), LATER)
        applying = project.start_apply()
        assert download.halfway.wait(30)
        with silent(project.host):
            download.goes_on.set()
            applying.send_signal(signal.SIGINT)
            until(lambda: "interrupted: finishing" in project.log.read_text(), "it says that it was interrupted")
            applying.send_signal(signal.SIGINT)
            assert applying.wait(2) == -signal.SIGINT
        project.converge()
    assert project.path("images/base").read_bytes() == IMAGE


def test_ctrl_c_at_the_question_changes_nothing(project: Project) -> None:
    project.write(pool())
    terminal = Terminal(project, "apply")
    terminal.sees("Enter a value")
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert project.plan().code == 2
    assert not project.path("images").exists()


def test_ctrl_c_ends_a_command_that_waits_for_the_host(project: Project) -> None:
    def has_called() -> bool:
        return any(file.is_socket() for file in Path(f"/proc/{planning.pid}/fd").iterdir())

    with silent(project.host):
        planning = subprocess.Popen(
            [sys.executable, "-c", MAIN, "plan"], cwd=project.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        until(has_called, "it has called the daemon", 20)
        planning.send_signal(signal.SIGINT)
        assert planning.wait(3) == 130
