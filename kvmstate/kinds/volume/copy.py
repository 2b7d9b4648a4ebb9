"""A volume that begins as a full copy of another one, which libvirt makes, in a pool or from one into another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from kvmstate.errors import HostError, KvmstateError, NotFound
from kvmstate.host import Host, pools, snapshots, volumes
from kvmstate.host.objects import Pool, Volume
from kvmstate.host.permit import Permit
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume.encryption import forgotten
from kvmstate.kinds.volume.growth import Opened, is_one, opened
from kvmstate.model.pool_types import image_format
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import document

# Seconds between two looks at how far a copy is, and before libvirt has begun it
_OFTEN = 0.1
_AT_ONCE = 0.005


class Original:
    """The volume that is copied. `capacity`: what its copy needs, in bytes; set by `look`."""

    def __init__(self, host: Host, ref: VolumeRef, capacity: int | None, live: bool = False) -> None:
        """`live`: also while a machine writes to it, as it is at one moment then."""
        self.name = str(ref)
        self.capacity = 0
        self._host, self._ref, self._wanted, self._live = host, ref, capacity, live

    @property
    def volume(self) -> Volume:
        """The volume itself. Raises NotFound."""
        return volumes.find(pools.find(self._host.connection, self._ref.pool), self._ref.name)

    def look(self) -> None:
        """Learn what its copy needs. Raises NotFound where it is not there, and HostError for what must not be copied,
        or does not fit."""
        volume = self.volume
        node = document(volumes.xml(volume))
        if forgotten(node):
            raise HostError(
                f"volume {self.name} is encrypted, and libvirt does not know its passphrase any more",
                "copy what it holds from within a machine that has both",
            )
        said, seen = self._host.lookup.volume_source(self._ref).format, node.find("target/format")
        probed = image_format(seen.get("type", "raw")) if seen is not None else "raw"
        if not said:
            raise HostError(
                f"nobody says the format of volume {self.name}, which its guest can write to",
                "declare it, or let a machine's disk say its format",
            )
        if said != ("raw" if probed in ("iso", "unknown") else probed):
            # libvirt would copy what its content looks like, and that may lead to other files
            raise HostError(
                f"volume {self.name} is {said}, and its content looks like {probed}: libvirt would read it as that",
                f"copy it by hand: `qemu-img convert -f {said}`",
            )
        if (writer := self._writer(volume)) and not self._live:
            raise HostError(
                f"virtual machine {writer.domain.name} is running and writes to volume {self.name}",
                "shut it down first: a copy of what is written to meanwhile holds neither the old nor the new; or say "
                "`live: true` beside the volume, and it is copied as it is at one moment",
            )
        self.capacity = int(node.findtext("capacity") or 0)
        if writer:
            self._check_live(writer)
        if self._wanted and self._wanted < self.capacity:
            raise HostError(
                f"capacity is less than that of volume {self.name} ({self.capacity} bytes)",
                "raise capacity or leave it out",
            )

    def copied(self, pool: Pool, name: str, text: str, begun: Callable[[Volume], object], progress: Progress) -> Volume:
        """Make the copy. `begun` is told of the volume as soon as libvirt makes it: the run may be cut off, and libvirt
        goes on. Raises HostError where there is one of this name."""
        if _found(pool, name):
            pools.refresh(pool)
            if _found(pool, name):
                raise HostError(f"there is a volume {name} in pool {pool.name} already", "plan again")
        done = threading.Event()

        def watch() -> None:
            whole, told = volumes.allocated(self.volume), False
            # a volume of which nothing is on record yet is nobody's, when the run is killed
            while not done.wait(_OFTEN if told else _AT_ONCE):
                with suppress(KvmstateError):
                    if (volume := _found(pool, name)) is not None:
                        if not told:
                            begun(volume)
                            told = True
                        progress(min(volumes.allocated(volume), whole), whole)

        watching = threading.Thread(target=watch, name="copy", daemon=True)
        watching.start()
        try:
            return volumes.create(pool, text, self.volume)
        finally:
            done.set()
            watching.join()

    def written_to(self) -> bool:
        """Whether a running machine writes to it."""
        return self._writer(self.volume) is not None

    def copied_live(self, volume: Volume, format_: str, permit: Permit, progress: Progress) -> None:
        """Fill a volume that has just been made with what it holds at this moment. Raises HostError."""
        writer = self._writer(self.volume)
        if writer is None:
            raise HostError(f"no machine writes to volume {self.name} any more", "apply again")
        from kvmstate.host import backup  # few volumes are copied so

        backup.copy(self._host.address, writer.domain, writer.target, volume, format_, permit, progress)

    def _check_live(self, writer: Opened) -> None:
        if found := snapshots.job(writer.domain, writer.target):
            raise HostError(
                f"disk {writer.target} of virtual machine {writer.domain.name} has a block job ({found})",
                "let it end, or abort it, and apply again",
            )

    def _writer(self, volume: Volume) -> Opened | None:
        """The machine that runs and may write to it: not one that only reads, or runs on a layer over it."""
        found = opened(self._host, ResourceId("volume", self.name), volume.path)
        writers = (each for each in found if each.writes and is_one(self._host, each.path, volume.path))
        return next(writers, None)


def _found(pool: Pool, name: str) -> Volume | None:
    with suppress(NotFound):
        return volumes.find(pool, name)
    return None
