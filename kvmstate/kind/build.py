"""What is done to an image before anybody uses it, by virt-sysprep: https://libguestfs.org/virt-sysprep.1.html"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from kvmstate.model.field import field
from kvmstate.model.resource import Name
from kvmstate.xmlbind import Keyed, Section, Sensitive

# How the digest of one that may hold secrets begins
PRIVATE = "private-"
_USER = r"^[a-z_][a-z0-9_-]{0,31}$"


class BuildFile(Section):
    """A file that is written into the image."""

    path: str = field(required=True, pattern=r"^/[^\n]*$", doc="Where in the guest; its folder is made.")
    content: str | None = field(None, Sensitive(), doc="What is in it.")
    file: str | None = field(local=True, doc="Instead: a local file that has it; relative to the manifest.")
    mode: str | None = field(pattern="^0?[0-7]{3,4}$", doc="Its mode, such as 0644.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.content is None) == (self.file is None):
            raise ValueError("a file has either content or file")
        return self


class BuildUser(Section):
    """A user that is made in the image."""

    name: str = field(required=True, pattern=_USER)
    groups: list[str] = field([], doc="Further groups that it is in.")
    sudo: bool = field(False, doc="Whether it may do all as root, and is not asked for a password.")
    ssh_authorized_keys: list[str] = field([], doc="Public keys of who may log in as this user.")


class Build(Section):
    """What is done to a version's image when it is built. virt-sysprep does it, or virt-customize where there are no
    operations, where kvmstate runs, or on a host that is reached by ssh."""

    bare = True
    operations: list[Name] | None = field(
        doc="What virt-sysprep takes out: `virt-sysprep --list-operations`. Default: its own choice, among others the "
        "machine-id and SSH's host keys. []: nothing."
    )
    hostname: str | None = field(
        pattern="^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$", doc="The guest's name, where no cloud-init says it."
    )
    packages: list[str] = field([], doc="Installed from the distribution, by the network of where it is built.")
    update: bool = field(False, doc="Whether all packages of the image are brought up to date.")
    users: list[BuildUser] = field([], Keyed("name"), doc="Users that are made.")
    files: list[BuildFile] = field([], Keyed("path"), doc="Files that are written.")
    run_commands: list[str] = field([], Sensitive(), doc="Scripts for a shell, run as root in the image.")
    first_boot: list[str] = field([], Sensitive(), doc="Scripts that each clone runs once, when it boots first.")
    ssh_authorized_keys: list[str] = field([], doc="Public keys of who may log in as root.")
    compress: bool = field(True, doc="Whether the image is compressed, and without what its file systems do not use.")

    @property
    def is_private(self) -> bool:
        """Whether it may hold secrets."""
        return bool(self.run_commands or self.first_boot or any(each.content is not None for each in self.files))

    def recipe(self) -> dict[str, Any]:
        """What decides what comes out of it."""
        said: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        for each in said.get("files", ()):
            if path := each.pop("file", None):
                each["digest"] = _digest(path)
        return said

    def commands(self, scripts: Path, there: Path) -> list[str]:
        """The lines of a file for `--commands-from-file`; what they name is written into the folder `scripts`, which is
        `there` where they are run."""

        def script(text: str) -> Path:
            path = scripts / f"script-{len([*scripts.iterdir()])}"
            path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n", encoding="utf-8")
            return there / path.name

        lines = [f"hostname {self.hostname}"] if self.hostname else []
        lines += ["update"] if self.update else []
        lines += [f"install {','.join(self.packages)}"] if self.packages else []
        for user in self.users:
            groups = f" -G {','.join(user.groups)}" if user.groups else ""
            lines.append(f"run-command id {user.name} >/dev/null 2>&1 || useradd -m -s /bin/bash{groups} {user.name}")
            if user.sudo:
                lines.append("mkdir /etc/sudoers.d")
                lines.append(f"write /etc/sudoers.d/90-{user.name}:{user.name} ALL=(ALL) NOPASSWD:ALL")
                lines.append(f"chmod 0440:/etc/sudoers.d/90-{user.name}")
            lines += [f"ssh-inject {user.name}:string:{_line(key)}" for key in user.ssh_authorized_keys]
        lines += [f"ssh-inject root:string:{_line(key)}" for key in self.ssh_authorized_keys]
        for each in self.files:
            source = scripts / f"file-{len([*scripts.iterdir()])}"
            if each.file:
                shutil.copyfile(each.file, source)
            else:
                source.write_text(each.content or "", encoding="utf-8")
            lines.append(f"mkdir {Path(each.path).parent}")
            lines.append(f"upload {there / source.name}:{each.path}")
            lines += [f"chmod {each.mode.rjust(4, '0')}:{each.path}"] if each.mode else []
        lines += [f"run {script(text)}" for text in self.run_commands]
        lines += [f"firstboot {script(text)}" for text in self.first_boot]
        if self.operations is None or "machine-id" in self.operations:
            # customizing gives the image an id of its own, which all clones would have
            lines.append("truncate /etc/machine-id")
        return lines


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip())


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        # told when the manifests are loaded
        return hashlib.sha256(json.dumps(path).encode()).hexdigest()
