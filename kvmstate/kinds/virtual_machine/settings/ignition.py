"""What systems that are not configured by cloud-init read at their first boot: https://coreos.github.io/ignition,
https://github.com/openSUSE/combustion"""

import json
from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.kind import Inlining
from kvmstate.model.field import field
from kvmstate.model.resource import Name
from kvmstate.xmlbind import Sensitive

# Characters of an argument of QEMU's: Linux takes 128 KiB
MOST = 120_000


class Ignition(Inlining):
    """What Fedora CoreOS, Flatcar and their like are told by Ignition, at the first boot of a new machine."""

    config: dict[str, Any] | str | None = field(
        None,
        Sensitive(),
        doc="The config, as Butane writes it: a mapping, or a text of JSON that is passed on as it is.",
    )
    config_file: str | None = field(local=True, into="config", doc="Instead: a file with such a text.")
    by: Literal["fwCfg", "drive"] = field(
        "fwCfg",
        doc="The firmware's configuration device, where CoreOS and Flatcar look for it (x86, ARM); or a drive called "
        "ignition, where SUSE's systems do.",
    )
    pool: Name | None = field(ref="pool", doc="The pool that a drive is in. Default: that of the first disk's volume.")

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.config is None) == (self.config_file is None):
            raise ValueError("say what it is told: config or configFile")
        if self.config is not None:
            self._check(self.text)
        return self

    @property
    def text(self) -> str:
        return self.config if isinstance(self.config, str) else json.dumps(self.config, ensure_ascii=False)

    def read(self, into: str, text: str) -> None:
        self._check(text)
        setattr(self, into, text)

    def _check(self, text: str) -> None:
        try:
            said = json.loads(text)
        except ValueError as error:
            raise ValueError(f"Ignition reads JSON, and this is none ({error}): Butane makes it of YAML") from None
        if not isinstance(said, dict) or "ignition" not in said:
            raise ValueError("Ignition needs a mapping with the key ignition, which has the version")
        if self.by == "fwCfg" and len(text.encode()) > MOST:
            raise ValueError(
                f"it has more than {MOST:,} bytes, which the firmware's device is not given: let it be by: drive"
            )


class Combustion(Inlining):
    """A script that SUSE's MicroOS and its like run in the initial RAM disk, at the first boot of a new machine."""

    script: str | None = field(
        None, Sensitive(), doc="It begins with #!; a comment says what it needs: `# combustion: network`."
    )
    script_file: str | None = field(local=True, into="script", doc="Instead: a file with the script.")
    pool: Name | None = field(
        ref="pool", doc="The pool that its drive is in. Default: that of the first disk's volume."
    )

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.script is None) == (self.script_file is None):
            raise ValueError("say what is run: script or scriptFile")
        if self.script is not None:
            self._check(self.script)
        return self

    def read(self, into: str, text: str) -> None:
        self._check(text)
        setattr(self, into, text)

    def _check(self, text: str) -> None:
        if not text.startswith("#!"):
            raise ValueError("a script begins with #!")
