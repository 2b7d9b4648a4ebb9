"""Installers on ISO images, made here: isolinux starts the tiny guest, which writes to the disk and ends (see `install`
in script/guest-init)."""

from __future__ import annotations

from pathlib import Path

from harness import QUICK
from pycdlib import PyCdlib


def medium(to: Path, guest: Path, options: str) -> Path:
    """Make the image; `guest` is the folder of the tiny guest."""
    config = f"default go\nlabel go\n  kernel /BZIMAGE\n  append initrd=/INITRD {QUICK} {options}\n".encode()
    image = PyCdlib()
    image.new(interchange_level=1)
    for name in ("isolinux.bin", "ldlinux.c32", "bzImage", "initrd"):
        image.add_file(str(guest / name), f"/{name.upper()}{'' if '.' in name else '.'};1")
    (cfg := to.with_suffix(".cfg")).write_bytes(config)
    image.add_file(str(cfg), "/ISOLINUX.CFG;1")
    image.add_eltorito("/ISOLINUX.BIN;1", boot_load_size=4, boot_info_table=True)
    image.write(str(to))
    image.close()
    return to
