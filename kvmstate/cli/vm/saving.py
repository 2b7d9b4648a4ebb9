"""`kvmstate vm save` and `restore`: a machine's memory on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.vm.holding import Hold, hold_options
from kvmstate.cli.vm.options import At, Done, act, changed, machines_options, opened, spare_installer, unchanged
from kvmstate.errors import HostError, UsageError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing
    from kvmstate.host.overview import Seen

_FILE = click.option("--file", metavar="PATH", help="A file of the host's, by its absolute path.")


@click.command("save")
@machines_options
@_FILE
@click.option("--bypass-cache", is_flag=True, help="Past the host's file system cache.")
@hold_options
@format_option
def save(fmt: Format, file: str | None, bypass_cache: bool, hold: Hold, **given: Any) -> int:
    """Write the memory of machines to disk, and stop them.

    The next start of the machine, by whomever, goes on from there. With --file the memory is in a file instead, and
    only `kvmstate vm restore --file` goes on from it: its disks must not be written to meanwhile.
    """
    with opened(**given) as at:
        from kvmstate.host import power

        _one(at, file)

        def do(seen: Seen, _: Standing) -> Done:
            if seen.state == "saved" and not file:
                return unchanged(seen)
            if not seen.active:
                raise HostError(f"it is {seen.state}: there is no memory to save")
            spare_installer(seen)
            if not seen.domain.persistent and not file:
                raise HostError("it is transient: libvirt keeps nothing of it", "--file PATH saves it")
            if file:
                power.save_to(at.host, seen.domain, file, bypass_cache=bypass_cache)
                said = f"saved to {file}; until `kvmstate vm restore {seen.domain.name} --file {file}` do not start it"
                return changed(said, "stopped", file=file)
            power.save(seen.domain, bypass_cache=bypass_cache)
            return changed("saved; its next start goes on from there", "saved")

        return act(fmt, at, do, "stopped" if file else "saved", hold)


@click.command("restore")
@machines_options
@_FILE
@click.option("--paused", is_flag=True, help="Its CPUs stand still until `kvmstate vm unpause`.")
@click.option(
    "--force", is_flag=True, help="Also where its disks were written to since, which damages what is on them."
)
@hold_options
@format_option
def restore(fmt: Format, file: str | None, paused: bool, force: bool, hold: Hold, **given: Any) -> int:
    """Let machines go on from their saved memory.

    With --file from a file that `kvmstate vm save --file` wrote; the file stays.
    """
    state = "paused" if paused else "running"
    with opened(**given) as at:
        from kvmstate.host import domains, power

        _one(at, file)

        def do(seen: Seen, _: Standing) -> Done:
            if seen.active:
                raise HostError(f"it is {seen.state}: nothing is to be restored")
            if file:
                found = power.saved_in(at.host.connection, file)
                if found != (seen.domain.name, seen.domain.uuid):
                    raise HostError(f"{file} has the memory of {found[0]} ({found[1]})")
                if seen.state == "saved":
                    raise HostError(
                        "it has another saved memory, which its next start goes on from",
                        f"kvmstate vm start {seen.domain.name}",
                    )
                if not force and (disks := power.written_since(at.host, file)):
                    raise HostError(
                        f"{', '.join(disks)} was written to after its memory was saved to {file}: to the guest that "
                        "would be damage",
                        f"`kvmstate vm start {seen.domain.name}` boots it; --force restores it all the same",
                    )
                power.restore_from(at.host.connection, file, paused)
                return changed(f"goes on from {file}", domains.state(seen.domain), file=file)
            if seen.state != "saved":
                raise HostError("it has no saved memory", f"kvmstate vm start {seen.domain.name} boots it")
            domains.start(seen.domain, paused)
            return changed("goes on from its saved memory", domains.state(seen.domain))

        return act(fmt, at, do, state, hold)


def _one(at: At, file: str | None) -> None:
    if file is None:
        return
    if len(at.seen) > 1:
        raise UsageError(f"--file is of one machine, and these are {len(at.seen)}", "one after the other")
    if not file.startswith("/"):
        raise UsageError(f"--file {file}: the host needs an absolute path", "such as /var/lib/libvirt/NAME.save")
