"""What cloud-init reads at a machine's first boot: an ISO image with a few files.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
"""

import time
from io import BytesIO
from types import SimpleNamespace
from typing import Literal

from kvmstate.model.effect import Effect, When
from kvmstate.model.field import field
from kvmstate.xmlbind import Section, Sensitive

# Stands for the module `time` in pycdlib, which has no word for the time that images say: two runs make the same bytes,
# in which it is 1980-01-01
_CLOCK = SimpleNamespace(**{**vars(time), "time": lambda: 315_532_800.0, "localtime": time.gmtime})


_CHANGE = When("on_change", ("ignore",), then=Effect.NONE, otherwise=Effect.REPLACE)


class Seed(Section):
    """The files of a seed, as cloud-init's data source NoCloud reads them."""

    user_data: str = field("", Sensitive(), effect=_CHANGE, doc="What the machine is to do, such as a #cloud-config.")
    meta_data: str = field("", effect=_CHANGE, doc="What it is: its instance-id, and its name.")
    vendor_data: str | None = field(None, Sensitive(), effect=_CHANGE, doc="As userData, which counts more.")
    network_config: str | None = field(effect=_CHANGE, doc="Its network, in cloud-init's version 1 or 2.")
    on_change: Literal["ignore", "replace"] = field(
        "replace", effect=Effect.NONE, doc="What other texts mean for a seed that is there; ignore leaves it as it is."
    )


def iso(seed: Seed) -> bytes:
    """Make the image, whose label is cidata."""
    from pycdlib import PyCdlib, dates, headervd, pycdlib, utils  # few machines have a seed

    for module in (dates, headervd, pycdlib, utils):
        module.__dict__["time"] = _CLOCK
    image = PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, text) in enumerate(_files(seed)):
        data = text.encode()
        image.add_fp(BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    made = BytesIO()
    image.write_fp(made)
    image.close()
    return made.getvalue()


def _files(seed: Seed) -> list[tuple[str, str]]:
    found = {
        "meta-data": seed.meta_data,
        "user-data": seed.user_data,
        "vendor-data": seed.vendor_data,
        "network-config": seed.network_config,
    }
    return [(name, text) for name, text in found.items() if text is not None]
