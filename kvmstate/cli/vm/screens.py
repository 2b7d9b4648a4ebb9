"""`kvmstate vm display`, `screenshot` and `send-key`: a guest's screen and keyboard."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.vm.options import machine_options, opened_one
from kvmstate.errors import HostError, UsageError
from kvmstate.views.formats import TEXT, Format, Output

if TYPE_CHECKING:
    from kvmstate.host import Host
    from kvmstate.host.overview import Seen
    from kvmstate.host.screen import Display

# Programs that show a screen, the best one first
_VIEWERS = ("remote-viewer", "vncviewer")
# Seconds that a tunnel may take to be there
_TUNNEL = 30.0


@click.command("display")
@machine_options
@click.option("--open", "viewer", is_flag=True, help="Open virt-viewer, remote-viewer or vncviewer.")
@click.option("--tunnel", is_flag=True, help="Of a host that is reached by ssh: lead there until Ctrl-C.")
@format_option
def display(fmt: Format, viewer: bool, tunnel: bool, **given: Any) -> int:
    """Print where a guest's screen is, or open it.

    A screen that only its host reaches is tunnelled by ssh, with --open or --tunnel.
    """
    with opened_one(**given) as (host, seen):
        _running(seen)
        from kvmstate.host import ssh
        from kvmstate.host.screen import displays

        found = displays(seen.domain)
        if not found:
            raise HostError(
                f"{seen.domain.name} has no screen", "`graphics: [{type: vnc}]` in its manifest gives it one"
            )
        if viewer and host.is_local and shutil.which("virt-viewer"):
            # libvirt hands the connection over, and no password is asked for; a name might be taken for a number
            words = ["virt-viewer", "--attach", "-c", host.address, seen.domain.uuid]
            return subprocess.run(words, check=False).returncode
        found = [each.seen_from(host) for each in found if each.listens]
        if not found:
            raise HostError(f"the screen of {seen.domain.name} listens nowhere", "--open shows it, on its host itself")
        remote = ssh.is_ssh(host.address)
        if viewer or tunnel:
            return _shown(host, found[0], viewer, remote and (found[0].is_local or tunnel))
        where = f" on {host.uri}; --tunnel leads there" if remote and any(each.is_local for each in found) else ""
        data = [{"uri": each.uri(), "host": host.uri, "tunnel": remote and each.is_local} for each in found]
        show(fmt, Output(lambda: data, lambda: "\n".join(f"{each.uri()}{where}" for each in found)))
    return 0


def _running(seen: Seen) -> None:
    if not seen.active:
        raise HostError(f"{seen.domain.name} is {seen.state}", f"kvmstate vm start {seen.domain.name}")


def _shown(host: Host, found: Display, viewer: bool, remote: bool) -> int:
    from kvmstate.host import ssh

    program = next(filter(shutil.which, _VIEWERS), None)
    if viewer and program is None:
        raise UsageError(f"there is no viewer here; the screen is {found.uri()}", "install virt-viewer")
    if not remote:
        if not viewer:
            raise UsageError(f"no tunnel is needed: {found.uri()}", "--tunnel is for hosts that are reached by ssh")
        if found.is_local and not host.is_local:
            raise HostError(f"only its host reaches {found.uri()}", "reach the host by qemu+ssh://, which is tunnelled")
        return _view(str(program), found, found.address, found.port)
    port = _free_port()
    way = subprocess.Popen(ssh.tunnel(host.address, port, found.there), stdin=subprocess.DEVNULL)
    try:
        _await(way, port)
        if viewer:
            return _view(str(program), found, "127.0.0.1", port)
        click.echo(found.uri("127.0.0.1", port))
        sys.stdout.flush()
        return way.wait()
    finally:
        way.terminate()
        way.wait()


def _view(program: str, found: Display, host: str, port: int) -> int:
    words = [f"{host}::{port}"] if program == "vncviewer" else [found.uri(host, port)]
    return subprocess.run([program, *words], check=False).returncode


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _await(way: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _TUNNEL
    while time.monotonic() < end and way.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise HostError("ssh has made no tunnel to the host" + (f" within {_TUNNEL:g} s" if way.poll() is None else ""))


@click.command("screenshot")
@machine_options
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Default: NAME-TIME.png; - is standard output.",
)
@click.option("--screen", type=click.IntRange(0), default=0, metavar="N", help="Of several, counted from 0.")
def screenshot(output: Path | None, screen: int, **given: Any) -> int:
    """Write a picture of a guest's screen, as PNG."""
    with opened_one(**given) as (_, seen):
        _running(seen)
        from kvmstate.host.screen import screenshot

        image = screenshot(seen.domain, screen)
        file = output or Path(f"{seen.domain.name}-{time.strftime('%Y-%m-%dT%H%M%S')}.png")
    if str(file) == "-":
        if os.isatty(1):
            raise UsageError("a picture is not for a terminal", "-o FILE")
        sys.stdout.flush()
        sys.stdout.buffer.write(image)
        return 0
    file.write_bytes(image)
    click.echo(str(file))
    return 0


@click.command("send-key")
@machine_options
@click.argument("keys", metavar="[KEYS]...", nargs=-1)
@click.option("--type", "text", metavar="TEXT", help="First type a text, as on a US keyboard.")
@click.option("--hold", type=click.IntRange(0), default=0, metavar="MS", help="How long each is pressed.")
@format_option
def send_key(fmt: Format, keys: tuple[str, ...], text: str | None, hold: int, **given: Any) -> int:
    """Press keys, such as ctrl-alt-delete or f2.

    Keys with - between them are pressed together; several KEYS are pressed one after the other.
    """
    from kvmstate.model.keys import chord, typing

    try:
        chords = [*(typing(text) if text else []), *map(chord, keys)]
    except ValueError as error:
        raise UsageError(str(error), "such as ctrl-alt-delete, alt-f2, enter; --type TEXT types a text") from None
    if not chords:
        raise UsageError("which keys?", "such as ctrl-alt-delete; --type TEXT types a text")
    with opened_one(**given) as (_, seen):
        _running(seen)
        from kvmstate.host.screen import send_keys

        for number, codes in enumerate(chords):
            if number:
                # QEMU takes one after the other, and drops what comes too fast
                time.sleep(max(0.03, hold / 1000))
            send_keys(seen.domain, codes, hold)
    if fmt == TEXT:
        click.echo(f"{seen.domain.name}: pressed {', '.join((*(['the keys of the text'] if text else []), *keys))}")
    else:
        show(fmt, Output(lambda: {"machine": seen.domain.name, "pressed": len(chords)}, lambda: ""))
    return 0
