"""What a machine reads at its first boot: an ISO image with a few files. Those of cloud-init have names of their own:
https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
"""

import time
from io import BytesIO
from itertools import accumulate
from types import SimpleNamespace
from typing import Annotated, Literal

from pydantic import Field

from kvmstate.model.effect import Effect, When
from kvmstate.model.field import field
from kvmstate.xmlbind import Section, Sensitive

# Stands for the module `time` in pycdlib, which has no word for the time that images say: two runs make the same bytes,
# in which it is 1980-01-01
_CLOCK = SimpleNamespace(**{**vars(time), "time": lambda: 315_532_800.0, "localtime": time.gmtime})

# Within what both names of a file on an ISO image may have
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}(/[A-Za-z0-9._-]{1,60}){0,5}$")]
_CHANGE = When("on_change", ("ignore",), then=Effect.NONE, otherwise=Effect.REPLACE)


class Seed(Section):
    """The files of a seed: those that cloud-init's data source NoCloud reads, or others under a label by which they are
    found."""

    label: str = field(
        "cidata",
        effect=_CHANGE,
        pattern="^[A-Za-z0-9_-]{1,16}$",
        doc="What the file system is called, such as OEMDRV, where Anaconda looks for ks.cfg.",
    )
    files: dict[FileName, str] = field(
        {}, Sensitive(), effect=_CHANGE, doc="Texts by their names, which may be in folders; instead of cloud-init's."
    )
    user_data: str = field("", Sensitive(), effect=_CHANGE, doc="What the machine is to do, such as a #cloud-config.")
    meta_data: str = field("", effect=_CHANGE, doc="What it is: its instance-id, and its name.")
    vendor_data: str | None = field(None, Sensitive(), effect=_CHANGE, doc="As userData, which counts more.")
    network_config: str | None = field(effect=_CHANGE, doc="Its network, in cloud-init's version 1 or 2.")
    on_change: Literal["ignore", "replace"] = field(
        "replace", effect=Effect.NONE, doc="What other texts mean for a seed that is there; ignore leaves it as it is."
    )


def iso(seed: Seed) -> bytes:
    """Make the image."""
    from pycdlib import PyCdlib, dates, headervd, pycdlib, utils  # few machines have a seed

    for module in (dates, headervd, pycdlib, utils):
        module.__dict__["time"] = _CLOCK
    image = PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=seed.label)
    folders = {"": ""}
    for number, (path, text) in enumerate(_files(seed)):
        folder, _, name = path.rpartition("/")
        for above in accumulate(folder.split("/"), "{}/{}".format) if folder else ():
            if above not in folders:
                parent, _, own = above.rpartition("/")
                folders[above] = f"{folders[parent]}/DIR{len(folders)}"
                image.add_directory(folders[above], rr_name=own, joliet_path=f"/{above}")
        data = text.encode()
        place = f"{folders[folder]}/FILE{number}.;1"
        image.add_fp(BytesIO(data), len(data), place, rr_name=name, joliet_path=f"/{path}")
    made = BytesIO()
    image.write_fp(made)
    image.close()
    return made.getvalue()


def _files(seed: Seed) -> list[tuple[str, str]]:
    # one that its manifest has no longer stands for nothing, see `with_cleared`
    if files := [(name, text) for name, text in sorted(seed.files.items()) if text is not None]:
        return files
    found = {
        "meta-data": seed.meta_data,
        "user-data": seed.user_data,
        "vendor-data": seed.vendor_data,
        "network-config": seed.network_config,
    }
    return [(name, text) for name, text in found.items() if text is not None]
