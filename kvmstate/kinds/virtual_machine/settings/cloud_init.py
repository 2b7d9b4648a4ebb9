"""What a machine does at its first boot, by the cloud-init that its image has: https://docs.cloud-init.io

The seed that cloud-init reads is a volume of its own on a CD-ROM drive, which a machine's document declares by this.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.kind import Fault, Inlining
from kvmstate.model.field import field
from kvmstate.model.resource import Name
from kvmstate.xmlbind import Sensitive

# What the drive is called
DISK = "cloud-init"
HEADER = "#cloud-config\n"
# https://docs.cloud-init.io/en/latest/explanation/format.html: by what their first line begins with
_FORMATS = ("#cloud-config", "#!", "#include", "#cloud-boothook", "#part-handler", "## template:", "Content-Type:")
_MIME = ("MIME-Version:",)
_HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*$"
_BAD_START = f"cloud-init reads no text that begins so: its first line is one of {', '.join(_FORMATS)}"
_CHECKED = "checkSchema: false where the image has another cloud-init, that knows it"
Config = dict[str, Any]


def _check_start(text: str, where: str = "") -> None:
    if not text.startswith((*_FORMATS, *_MIME)):
        raise ValueError(f"{where}{_BAD_START}")


class CloudInit(Inlining):
    """What a new machine is told at its first boot, by a seed for cloud-init's data source NoCloud: an ISO image on a
    CD-ROM drive, which is a volume of its own, made before the machine."""

    mappings = frozenset({"meta_data"})
    pool: Name | None = field(ref="pool", doc="The pool that the seed is in. Default: that of the first disk's volume.")
    name: Name | None = field(
        doc="The seed's name in the pool: another name is another volume. Default: MACHINE-cloud-init.iso."
    )
    bus: Literal["scsi", "sata", "ide", "usb", "virtio"] = field(
        "scsi",
        doc="What the drive is on. scsi is virtio-scsi, as kernels for clouds drive no SATA; a Windows without "
        "drivers for virtio needs sata.",
    )
    hostname: str | None = field(pattern=_HOST_NAME, max_length=253, doc="Default: the machine's name.")
    ssh_authorized_keys: list[str] = field([], doc="Public keys of who may log in as the image's default user.")
    users: list[str | Config] = field([], Sensitive(), doc="As in a #cloud-config; `default` is the image's own user.")
    packages: list[str] = field([], doc="Installed from the distribution, whose package lists are updated first.")
    run_commands: list[str | list[str]] = field(
        [], Sensitive(), doc="Run once, as root, at the end of the first boot; a text by a shell, a list as it is."
    )
    grow_root: bool | None = field(
        doc="Whether the root file system grows with its disk. Default: as the image has it, which is yes for most."
    )
    user_data: Config | str | None = field(
        None,
        Sensitive(),
        doc="All else: a #cloud-config as a mapping, to which the fields above are added; or a text, such as a script.",
    )
    user_data_file: str | None = field(
        local=True, into="user_data", doc="Instead of userData: a file with such a text."
    )
    meta_data: Config = field({}, doc="Added to instance-id and local-hostname.")
    meta_data_file: str | None = field(
        local=True, into="meta_data", doc="Instead of metaData: a file with such a mapping, in YAML or JSON."
    )
    vendor_data: Config | str | None = field(None, Sensitive(), doc="As userData, which counts more.")
    vendor_data_file: str | None = field(
        local=True, into="vendor_data", doc="Instead of vendorData: a file with such a text."
    )
    network_config: Literal["auto", "none"] | Config = field(
        "auto",
        doc="DHCP, or `addresses`, for each interface, told by its MAC address (auto); cloud-init's own choice "
        "(none); or a mapping, in its version 1 or 2.",
    )
    check_schema: bool = field(
        True,
        doc="Whether userData, vendorData and users have to fit the schema of cloud-init 25.1.4; false for an image "
        "whose cloud-init knows more.",
    )
    on_change: Literal["ignore", "reboot", "replace"] = field(
        "ignore",
        doc="What another seed means for a machine that is there. ignore: nothing, as it has booted. reboot: with its "
        "next start, for which lifecycle.restart counts, it is another instance, and cloud-init runs again. replace: "
        "its disks that are created from an image are made again, where their own lifecycle says replace: allow.",
    )

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        if self.name and self.on_change == "reboot":
            raise ValueError("with onChange: reboot each seed is a volume of its own: leave name out")
        if isinstance(self.user_data, str) and (short := [*self._short_forms()]):
            raise ValueError(f"userData is a text, to which {short[0]} cannot be added: write it as a mapping")
        for name, text, file in (
            ("userData", self.user_data, self.user_data_file),
            ("vendorData", self.vendor_data, self.vendor_data_file),
        ):
            if isinstance(text, str):
                _check_start(text, f"{name}: ")
            if file and text is not None:
                raise ValueError(f"{name} is written here, or in a file ({name}File), not both")
        if self.meta_data_file and self.meta_data:
            raise ValueError("metaData is written here, or in a file (metaDataFile), not both")
        return self

    def read(self, into: str, text: Any) -> None:
        if into in self.mappings:
            setattr(self, into, text)
            return
        _check_start(text)
        if into == "user_data" and (short := [*self._short_forms()]):
            raise ValueError(f"it is a text, to which {short[0]} cannot be added: write that into the file")
        setattr(self, into, text)

    def structures(self) -> Iterator[tuple[tuple[str, ...], object]]:
        if not self.check_schema:
            return
        if self.users:
            yield (), {"users": self.users}
        for name, said, file in (
            ("userData", self.user_data, self.user_data_file),
            ("vendorData", self.vendor_data, self.vendor_data_file),
        ):
            if (isinstance(said, dict) and said) or (isinstance(said, str) and said.startswith(HEADER)):
                yield (f"{name}File" if file else name,), said

    def misfits(self, said: object) -> Iterator[Fault]:
        from kvmstate.kinds.virtual_machine import cloud_init_schema  # loaded with the first that is checked

        for path, told in cloud_init_schema.misfits(said):
            yield Fault(path, told, _CHECKED)

    def seed(self, machine: str, interfaces: list[Config]) -> dict[str, str]:
        """The files, by the names of their fields; `interfaces` in cloud-init's words, of a machine of this name."""
        host = self.hostname or machine
        texts = {"userData": self._user_data()}
        if self.vendor_data is not None:
            texts["vendorData"] = _text(self.vendor_data)
        if network := self._network(interfaces):
            texts["networkConfig"] = _json(network)
        # cloud-init runs once for an instance
        instance = f"{machine}-{digest({**texts, 'host': host})}" if self.on_change == "reboot" else machine
        texts["metaData"] = _json({"instance-id": instance, "local-hostname": host, **self.meta_data})
        return texts

    def _short_forms(self) -> Iterator[str]:
        return (name for name, _ in self._said())

    def _said(self) -> Iterator[tuple[str, Config]]:
        """What the short forms are in a #cloud-config."""
        if self.ssh_authorized_keys:
            yield "sshAuthorizedKeys", {"ssh_authorized_keys": self.ssh_authorized_keys}
        if self.users:
            yield "users", {"users": self.users}
        if self.packages:
            yield "packages", {"package_update": True, "packages": self.packages}
        if self.run_commands:
            yield "runCommands", {"runcmd": self.run_commands}
        if self.grow_root is not None:
            mode = "auto" if self.grow_root else "off"
            yield "growRoot", {"growpart": {"mode": mode}, "resize_rootfs": self.grow_root}

    def _user_data(self) -> str:
        if isinstance(self.user_data, str):
            return self.user_data
        short: Config = {}
        for _, more in self._said():
            short |= more
        return _text({**short, **(self.user_data or {})})

    def _network(self, interfaces: list[Config]) -> Config | None:
        if isinstance(self.network_config, dict):
            return self.network_config
        if self.network_config == "none" or not interfaces:
            return None
        return {"version": 2, "ethernets": {f"eth{number}": each for number, each in enumerate(interfaces)}}


def digest(texts: Mapping[str, str]) -> str:
    """What tells one seed from another."""
    return hashlib.sha256(_json(dict(texts)).encode()).hexdigest()[:8]


def _text(data: Config | str) -> str:
    return data if isinstance(data, str) else f"{HEADER}{_indented(_json(data))}\n"


def _json(data: Config) -> str:
    """As YAML that every cloud-init reads."""
    return json.dumps(data, ensure_ascii=False)


@lru_cache(64)
def _indented(text: str) -> str:
    """The same in lines; machines of one template say the same, and this takes ten times as long as the rest."""
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
