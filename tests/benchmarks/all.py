"""Every figure that has a goal: `python tests/benchmarks/all.py [COUNT]`, with COUNT machines (1,000) where they count.

The exit code is 1 when a goal is missed, or one of the programs fails. Each can be run by itself, and says how.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(count: str) -> int:
    programs = [
        ["thousand.py", count],
        ["thousand.py", "--latency", "10", "--runs", "1", "--only", "plan", count],
        ["running.py", count],
        ["uploads.py"],
        ["daemon.py", "30"],
        ["startup.py"],
    ]
    failed = []
    for name, *words in programs:
        print(f"\n{name} {' '.join(words)}", flush=True)
        if subprocess.run([sys.executable, HERE / name, *words], check=False).returncode:
            failed.append(name)
    print(f"\nmissed or failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["1000"])))
