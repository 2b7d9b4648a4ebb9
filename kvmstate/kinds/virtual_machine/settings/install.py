"""How a new machine is installed: see `kvmstate.kinds.virtual_machine.install`."""

from typing import Literal, Self

from pydantic import model_validator

from kvmstate.kinds.virtual_machine.cmdline import harmless_cmdline
from kvmstate.model.field import field
from kvmstate.model.quantity import Duration
from kvmstate.model.reference import VolumeRef
from kvmstate.xmlbind import Section, Sensitive


class InstallKernel(Section):
    """The installer's kernel, booted without a boot loader: so that it is told what to do by its command line."""

    volume: VolumeRef | None = field(ref="volume", doc="The volume that the kernel image is in.")
    path: str | None = field(pattern="^/", doc="Instead: a file of the host.")
    initrd_volume: VolumeRef | None = field(ref="volume", doc="The volume that the initial RAM disk is in.")
    initrd: str | None = field(pattern="^/", doc="Instead: a file of the host.")
    cmdline: str | None = field(
        None,
        Sensitive(harmless_cmdline),
        doc="The kernel's command line, such as `auto=true url=http://192.168.150.1/preseed.cfg`. Shown where all of "
        "it is well known, as it may hold secrets.",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if bool(self.volume) == bool(self.path):
            raise ValueError("say where the kernel is: volume or path")
        if self.initrd_volume and self.initrd:
            raise ValueError("the initial RAM disk is in initrdVolume or initrd, not in both")
        return self


class Install(Section):
    """An installer that a new machine runs first, until that powers it off or reboots it; then the machine is started
    from its disk. It counts for a machine that is made with a disk to which nothing was ever written, and for no
    other."""

    iso: VolumeRef | None = field(
        ref="volume",
        doc="The medium, on a CD-ROM drive that is there while it installs.",
        examples=["lab/debian-12.iso"],
    )
    kernel: InstallKernel | None = field(doc="What is booted instead of the medium.")
    drives: list[VolumeRef] = field(
        [],
        ref="volume",
        doc="More volumes, each on a CD-ROM drive while it installs, such as answers (kickstart on a volume called "
        "OEMDRV) or drivers.",
    )
    bus: Literal["sata", "ide", "scsi", "usb"] | None = field(
        doc="What these drives are on. Default: sata, ide on a machine of the type pc, scsi on one that has neither."
    )
    timeout: Duration = field(
        3600,
        gt=0,
        doc="How long `apply` waits for its end. The installer goes on; the next apply, or `kvmstate run`, does the "
        "rest.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.iso or self.kernel):
            raise ValueError("say what is booted: iso or kernel")
        return self
