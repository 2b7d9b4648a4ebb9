"""Draw docs/plan.svg: what `kvmstate plan` prints on a terminal, of the project that `kvmstate init` makes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

SVG = Path(__file__).parents[1] / "docs" / "plan.svg"
COLUMNS = 90
PROGRAM = [sys.executable, "-c", "from kvmstate.cli import main; main()"]


def shown(folder: Path) -> str:
    """What the terminal shows; libvirt's test driver is the host."""
    subprocess.run([*PROGRAM, "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    reading, writing = pty.openpty()
    env = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "50"}
    subprocess.run([*PROGRAM, "plan", "-c", "test:///default"], cwd=folder, env=env, stdout=writing, check=True)
    os.close(writing)
    text = b""
    try:
        while part := os.read(reading, 65536):
            text += part
    except OSError:
        # the other end is closed
        pass
    return text.decode().replace("\r\n", "\n")


with tempfile.TemporaryDirectory() as folder:
    console = Console(width=COLUMNS, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("$ kvmstate plan", style="bold"))
    console.print(Text.from_ansi(shown(Path(folder))))
    SVG.write_text(console.export_svg(title="kvmstate", unique_id="plan"), encoding="utf-8")
print(f"wrote {SVG}")
