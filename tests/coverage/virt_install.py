"""What virt-install writes for the options in virt_install.txt: `python tests/coverage/virt_install.py URI COMMAND…`.

COMMAND is virt-install, and URI a throw-away host. The documents are written to virt_install.xml, which is committed:
counting needs no virt-install. What it refuses is told, and left out.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
# where a line says nothing of it
DEFAULTS = {"--memory": "512", "--disk": "none", "--connect": "", "--name": ""}


def document(uri: str, command: list[str], number: int, line: str) -> str:
    """Its document; empty where it refuses."""
    words = shlex.split(line)
    for option, value in {**DEFAULTS, "--connect": uri, "--name": f"virt-install-{number:03}"}.items():
        words += [option, value] if option not in words else []
    # the binding writes the shortest documents in one line, and keeps what libvirt would complete
    asked = [*command, *words, "--import", "--print-xml", "1", "--dry-run", "--check", "all=off"]
    made = subprocess.run(asked, capture_output=True, text=True)
    if made.returncode:
        last = (made.stderr.strip().splitlines() or [""])[-1]
        print(f"line {number}: {line}\n    {last}", file=sys.stderr)
        return ""
    text = re.sub(r"\s*<uuid>.*?</uuid>", "", made.stdout)
    # chosen at random
    count = itertools.count(1)
    return re.sub(
        r"(<mac address=.)52:54:00:(?!11:22:33)..:..:..",
        lambda found: f"{found[1]}52:54:00:00:{number:02x}:{next(count):02x}",
        text,
    )


def main() -> int:
    uri, *command = sys.argv[1:]
    lines = [each for each in (HERE / "virt_install.txt").read_text().splitlines() if not each.startswith("#")]
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda each: document(uri, command, *each), enumerate(lines, 1))
    (HERE / "virt_install.xml").write_text(f"<domains>\n{''.join(made)}</domains>\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
