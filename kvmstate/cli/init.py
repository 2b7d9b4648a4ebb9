"""`kvmstate init`: a project that works as it is."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import click

from kvmstate.cli.formats import Tell, format_option, telling
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format

TEMPLATES = Path(__file__).with_name("templates")
FILES = {
    "kvmstate.yaml": "kvmstate.yaml",
    "manifests/network.yaml": "network.yaml",
    "manifests/storage.yaml": "storage.yaml",
    "manifests/web-1.yaml": "web-1.yaml",
}


@click.command("init")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@format_option
def command(directory: Path, fmt: Format) -> None:
    """Start a project: kvmstate.yaml and a first set of manifests.

    DIR gets kvmstate.yaml, the schemas for editors, and manifests of a network, a pool and a machine."""
    from kvmstate.cli.schema import FILES as SCHEMAS
    from kvmstate.cli.schema import text

    texts = {name: (TEMPLATES / template).read_text(encoding="utf-8") for name, template in FILES.items()}
    said = {"@PROJECT@": project_name(directory), "@ID@": str(uuid.uuid4())}
    for mark, text_ in said.items():
        texts["kvmstate.yaml"] = texts["kvmstate.yaml"].replace(mark, text_)
    texts |= {f"schemas/{name}": text(which) for name, which in SCHEMAS.items()}
    standing = [name for name in texts if (directory / name).exists()]
    if standing:
        raise UsageError(f"{directory / standing[0]} is there already", "start in an empty folder: kvmstate init DIR")
    with telling(fmt) as tell:
        _write(directory, texts, tell)
        tell("\nNext:")
        for step in ([] if directory == Path(".") else [f"cd {directory}"]) + ["kvmstate validate", "kvmstate plan"]:
            tell(f"  {step}", step=step)


def _write(directory: Path, texts: dict[str, str], tell: Tell) -> None:
    try:
        for name, content in texts.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            with (directory / name).open("x", encoding="utf-8") as file:
                file.write(content)
            tell(f"wrote {directory / name}", file=str(directory / name))
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def project_name(directory: Path) -> str:
    """The folder's name, as far as it makes a project's."""
    return re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-")[:63].strip("-") or "default"
