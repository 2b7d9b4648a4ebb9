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
@click.option(
    "--cloud-image",
    metavar="URL|FILE",
    help="An image with cloud-init, which the machine begins with; of one at a URL the checksum is fetched, too.",
)
@click.option("--checksums", metavar="URL", help="Default: SHA512SUMS or SHA256SUMS, beside the image.")
@click.option(
    "--ssh-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key of who may log in. Default: yours in ~/.ssh.",
)
@format_option
def command(directory: Path, cloud_image: str | None, checksums: str | None, ssh_key: Path | None, fmt: Format) -> None:
    """Start a project: kvmstate.yaml and a first set of manifests.

    DIR gets kvmstate.yaml, the schemas for editors, and manifests of a network, a pool and a machine."""
    from kvmstate.cli.schema import FILES as SCHEMAS
    from kvmstate.cli.schema import text

    if (checksums or ssh_key) and not cloud_image:
        raise UsageError("--checksums and --ssh-key go with --cloud-image", "see kvmstate init --help")
    files, said = dict(FILES), {"@PROJECT@": project_name(directory), "@ID@": str(uuid.uuid4())}
    if cloud_image:
        from kvmstate.cli.cloud_image import allowed, marks

        files |= {"manifests/image.yaml": "image.yaml", "manifests/web-1.yaml": "cloud-1.yaml"}
        said |= marks(cloud_image, checksums, ssh_key, directory / "manifests")
    texts = {name: (TEMPLATES / template).read_text(encoding="utf-8") for name, template in files.items()}
    for name in texts:
        for mark, text_ in said.items():
            texts[name] = texts[name].replace(mark, text_)
    texts |= {f"schemas/{name}": text(which) for name, which in SCHEMAS.items()}
    standing = [name for name in texts if (directory / name).exists()]
    if standing:
        raise UsageError(f"{directory / standing[0]} is there already", "start in an empty folder: kvmstate init DIR")
    with telling(fmt) as tell:
        _write(directory, texts, tell)
        tell("\nNext:")
        steps = [] if directory == Path(".") else [f"cd {directory}"]
        more = allowed(cloud_image, directory) if cloud_image else ""
        steps += [f"kvmstate validate{more}", f"kvmstate plan{more}"]
        if cloud_image:
            steps += [f"kvmstate apply{more}", f"kvmstate status{more}   # shows the address: ssh USER@ADDRESS"]
        for step in steps:
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
