"""`kvmstate vm start`, `shutdown`, `poweroff`, `reboot`, `reset`, `pause` and `unpause`: on and off, by hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.session import seconds
from kvmstate.cli.vm.holding import Hold, hold_options, lock_option
from kvmstate.cli.vm.options import (
    Done,
    F,
    act,
    changed,
    installs,
    machines_options,
    opened,
    spare_installer,
    unchanged,
)
from kvmstate.errors import HostError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing
    from kvmstate.host.overview import Seen


def _timeout_option(command: F) -> F:
    return click.option(
        "--timeout",
        metavar="DURATION",
        callback=lambda context, option, text: None if text is None else seconds(context, option, text),
        help="How long the guest may take to shut down. Default: its manifest's lifecycle.stop.timeout, else 60s.",
    )(command)


def _waiting(name: str, waited: float) -> None:
    said = f"still running after {waited:.0f} s" if waited >= 1 else "asked to shut down"
    click.echo(harmless(f"  {name}: {said}"), err=True)


def _gone(seen: Seen) -> str:
    """What becomes of the configuration of a machine that is about to stop, if that is news."""
    return "" if seen.domain.persistent else "; it was transient, and is gone"


@click.command("start")
@machines_options
@hold_options
@click.option("--paused", is_flag=True, help="Its CPUs stand still until `kvmstate vm unpause`.")
@format_option
def start(fmt: Format, paused: bool, hold: Hold, **given: Any) -> int:
    """Start machines; one with saved memory goes on from there."""
    state = "paused" if paused else "running"
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, _: Standing) -> Done:
            if seen.state == "paused" and not paused:
                raise HostError("it is paused", f"kvmstate vm unpause {seen.domain.name}")
            if seen.active:
                return unchanged(seen)
            domains.start(seen.domain, paused)
            how = "goes on from its saved memory" if seen.state == "saved" else "started"
            return changed(f"{how}, paused" if paused else how, state)

        return act(fmt, at, do, state, hold)


@click.command("shutdown")
@machines_options
@_timeout_option
@hold_options
@format_option
def shutdown(fmt: Format, timeout: int | None, hold: Hold, **given: Any) -> int:
    """Shut guests down, by the guest agent or ACPI.

    It is waited for, and never powered off: `kvmstate vm poweroff` does that. A machine that its manifest keeps
    running is started again by the next apply, and by a daemon at once: --hold suspends it first.
    """
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, standing: Standing) -> Done:
            name = seen.domain.name
            if not seen.active:
                return unchanged(seen)
            spare_installer(seen)
            gone = _gone(seen)
            domains.shutdown(
                seen.domain,
                timeout or standing.lifecycle.stop.timeout,
                False,
                hint=f"--timeout waits longer; `kvmstate vm poweroff {name}` does not ask the guest",
                told=partial(_waiting, name),
            )
            return changed(f"shut down{gone}", "stopped")

        return act(fmt, at, do, "stopped", hold)


@click.command("poweroff")
@machines_options
@hold_options
@format_option
def poweroff(fmt: Format, hold: Hold, **given: Any) -> int:
    """Switch machines off; the guest is not asked.

    What a guest has not written to its disks is lost, as when a computer loses its power.
    """
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, _: Standing) -> Done:
            if not seen.active:
                return unchanged(seen)
            gone = _gone(seen)
            if installs(seen):
                gone += "; its installer was cut off, and nobody knows what is on its disk"
            domains.destroy(seen.domain)
            return changed(f"powered off{gone}", "stopped")

        return act(fmt, at, do, "stopped", hold)


@click.command("reboot")
@machines_options
@click.option(
    "--apply-pending",
    is_flag=True,
    help="Stop and start instead those that something waits for a restart of, as an apply would: see lifecycle.stop.",
)
@_timeout_option
@lock_option
@format_option
def reboot(fmt: Format, apply_pending: bool, timeout: int | None, lock_timeout: int, **given: Any) -> int:
    """Ask guests to reboot, by their agent or ACPI.

    The machine itself goes on, so that what waits for a restart still does: --apply-pending takes that on.
    """
    with opened(**given) as at:
        from kvmstate.host import power

        def do(seen: Seen, standing: Standing) -> Done:
            if seen.state != "running":
                raise HostError(f"it is {seen.state}", f"kvmstate vm {_ON[seen.state]} {seen.domain.name}")
            spare_installer(seen)
            pending = at.standings.pending(standing)
            if not apply_pending:
                power.reboot(seen.domain)
                waits = f"; {', '.join(pending)} still waits: --apply-pending takes it on" if pending else ""
                return changed(f"asked to reboot{waits}", "running", pending=list(pending))
            if not standing.project:
                raise HostError(
                    "no project owns it, so that nothing is known to wait",
                    "`kvmstate vm shutdown` and then `kvmstate vm start` take on what is defined",
                )
            if not pending:
                return Done("nothing waits for a restart", "running", {"changed": False, "pending": []})
            _restart(seen, standing, timeout)
            return changed(f"restarted, and has taken on {', '.join(pending)}", "running", pending=list(pending))

        def _restart(seen: Seen, standing: Standing, timeout: int | None) -> None:
            from kvmstate.apply.held import restart

            name, stop = seen.domain.name, standing.lifecycle.stop
            command = "vm reboot --apply-pending"
            told = partial(_waiting, name)
            say = partial(click.echo, err=True)
            allowed = timeout or stop.timeout
            restart(at.host, seen.domain, command, lock_timeout, allowed, stop.on_timeout == "destroy", say, told)

        return act(fmt, at, do)


_ON = {"stopped": "start", "saved": "start", "paused": "unpause"}


@click.command("reset")
@machines_options
@format_option
def reset(fmt: Format, **given: Any) -> int:
    """Press the reset button; the guest is not asked.

    What a guest has not written to its disks is lost.
    """
    with opened(**given) as at:
        from kvmstate.host import power

        def do(seen: Seen, _: Standing) -> Done:
            if not seen.active:
                raise HostError(f"it is {seen.state}", f"kvmstate vm start {seen.domain.name}")
            spare_installer(seen)
            power.reset(seen.domain)
            return changed("reset", seen.state)

        return act(fmt, at, do)


@click.command("pause")
@machines_options
@hold_options
@format_option
def pause(fmt: Format, hold: Hold, **given: Any) -> int:
    """Let the CPUs of machines stand still; their memory stays."""
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, _: Standing) -> Done:
            if seen.state == "paused":
                return unchanged(seen)
            if not seen.active:
                raise HostError(f"it is {seen.state}", f"kvmstate vm start --paused {seen.domain.name}")
            domains.suspend(seen.domain)
            return changed("paused", "paused")

        return act(fmt, at, do, "paused", hold)


@click.command("unpause")
@machines_options
@hold_options
@format_option
def unpause(fmt: Format, hold: Hold, **given: Any) -> int:
    """Let paused machines go on."""
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, _: Standing) -> Done:
            if seen.state == "running":
                return unchanged(seen)
            if not seen.active:
                raise HostError(f"it is {seen.state}", f"kvmstate vm start {seen.domain.name}")
            domains.resume(seen.domain)
            return changed(f"runs again{f'; before, {seen.why}' if seen.why else ''}", "running")

        return act(fmt, at, do, "running", hold)
