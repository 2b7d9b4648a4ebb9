"""On a terminal, long values hang below the column where they begin, and no word is cut."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from kvmstate.views import daemon, status
from kvmstate.views.text import aligned, hanging

SHORT = " ".join(f"part{n}" for n in range(14))
TEXT = " ".join(f"word{n}" for n in range(40))
MANIFEST = f"""\
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {{name: web}}
spec: {{memory: 1GiB, cpus: 1, state: stopped, title: {TEXT}, description: {SHORT}}}
"""


def on_a_terminal(folder: Path, columns: int, *words: str) -> list[str]:
    reading, writing = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "LINES": "50"}
    program = [sys.executable, "-c", "from kvmstate.cli import main; main()", *words]
    done = subprocess.run(program, cwd=folder, env=env, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 0, done.stderr
    text = b""
    try:
        while part := os.read(reading, 65536):
            text += part
    except OSError:
        # the other end is closed
        pass
    os.close(reading)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()


def test_a_plan_fits_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST)
    lines = on_a_terminal(tmp_path, 80, "plan", "m.yaml", "-c", "test:///default")
    assert [line for line in lines if len(line) > 80] == []
    first = next(index for index, line in enumerate(lines) if "word0" in line)
    begins = lines[first].index("word0")
    assert lines[first + 1].startswith(" " * begins + "word")
    assert " ".join(" ".join(lines).split()).count("word0 word1") == 1
    begins = next(line.index("part0") for line in lines if "part0" in line)
    assert any(line.startswith(" " * begins + "part") for line in lines)


def test_where_values_come_from_fits_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST)
    words = ("explain", "--resolved", "domain/web", "m.yaml", "-c", "test:///default")
    for columns in (80, 120):
        lines = on_a_terminal(tmp_path, columns, *words)
        assert [line for line in lines if len(line) > columns] == []
        # behind short values in one column, and above what has no room beside it
        assert len({line.index("#") for line in lines if line.startswith(("memory:", "cpus:", "state:"))}) == 1
        assert "# m.yaml:4:" in lines[: next(index for index, line in enumerate(lines) if "word0" in line)]


def test_what_is_not_a_terminal_gets_whole_lines() -> None:
    assert hanging("a: ", TEXT, None) == [f"a: {TEXT}"]
    assert aligned([("a", "b"), ("cc", TEXT)]) == ["a   b", f"cc  {TEXT}"]


def test_a_table_wraps_its_last_column() -> None:
    head, *lines = aligned([("RESOURCE", "NOTE"), ("domain/web", TEXT)], 40)
    assert head == "RESOURCE    NOTE"
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith(" " * 12 + "word") for line in lines[1:])


def test_status_has_the_same_columns_with_and_without_a_daemon() -> None:
    assert set(status.HEAD) < set(daemon.HEAD)
