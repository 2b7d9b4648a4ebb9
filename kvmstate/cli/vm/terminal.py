"""`kvmstate vm console` and `ssh`: a terminal in a guest."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from kvmstate.cli.session import seconds
from kvmstate.cli.vm.options import machine_options, opened_one
from kvmstate.errors import HostError, KvmstateError, UsageError

if TYPE_CHECKING:
    from kvmstate.host.console import Console
    from kvmstate.host.objects import Domain


def _escape(context: click.Context, option: click.Parameter, text: str) -> bytes:
    """^] as the byte that the terminal sends."""
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) - 64])
    raise click.BadParameter(f"{text!r}: expected ^ and a character, such as ^]")


@click.command("console")
@machine_options
@click.option("--device", metavar="ALIAS", help="Another one than the first, such as serial1 or console2.")
@click.option("--force", is_flag=True, help="Take it from whoever is connected to it.")
@click.option("--escape", default="^]", show_default=True, metavar="KEY", callback=_escape, help="What ends it.")
@click.option(
    "--log",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add what the guest prints to a file.",
)
@click.option("--no-resize", is_flag=True, help="Do not tell the guest the size of this terminal.")
def console(device: str | None, force: bool, escape: bytes, log: Path | None, no_resize: bool, **given: Any) -> int:
    """Use a guest's serial console; ^] ends it.

    A guest with an agent is told the size of this terminal, and each change of it. Without a terminal on standard
    input, that is typed, and all the guest prints is printed until the console ends.
    """
    with opened_one(**given) as (_, seen), ExitStack() as stack:
        domain = seen.domain
        if not seen.active:
            raise HostError(f"{domain.name} is {seen.state}", f"kvmstate vm start {domain.name}")
        from kvmstate.host.console import Console, terminal

        file = stack.enter_context(open(log, "ab", opener=_for_its_owner)) if log else None
        at = Console(domain, device, force)
        stack.callback(at.close)
        key = f"^{chr(escape[0] + 64)}"
        is_terminal = os.isatty(0) and os.isatty(1)
        if is_terminal:
            click.echo(f"connected to {domain.name}; {key} ends this", err=True)
            size = None if no_resize else _Size(domain, terminal(domain, device))
            stack.enter_context(_raw())
            if size:
                stack.enter_context(size.followed())
        why = _talk(at, escape if is_terminal else b"", file)
    click.echo(f"\r\n{why}" if is_terminal else why, err=True)
    return 0


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _talk(console: Console, escape: bytes, log: IO[bytes] | None) -> str:
    """Pass on what is typed and what the guest prints, until one side ends; why it ended. Raises HostError."""
    ended, over = os.pipe()
    failed: list[KvmstateError] = []

    def listen() -> None:
        try:
            while data := console.read():
                _print(data)
                if log:
                    log.write(data)
                    log.flush()
        except KvmstateError as error:
            failed.append(error)
        except OSError:
            # nobody reads it any more
            pass
        finally:
            os.write(over, b".")

    threading.Thread(target=listen, name="console", daemon=True).start()
    watched = [0, ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            if failed:
                raise failed[0]
            return "the console has ended"
        typed = os.read(0, 4096)
        if not typed:
            watched = [ended]
            continue
        before, found, _ = typed.partition(escape) if escape else (typed, b"", b"")
        if before:
            console.write(before)
        if found:
            return "disconnected"


def _print(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


class _Size:
    """The size of this terminal, told to a guest by its agent: the guest's own programs are told by its kernel then."""

    def __init__(self, domain: Domain, terminal: str) -> None:
        self._domain, self._terminal = domain, terminal
        self._changed = threading.Event()
        self._changed.set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        before = signal.signal(signal.SIGWINCH, lambda *_: self._changed.set())
        threading.Thread(target=self._tell, name="size", daemon=True).start()
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

    def _tell(self) -> None:
        from kvmstate.host import agent, domains

        while self._changed.wait():
            self._changed.clear()
            # a guest without an agent, or one that runs no programs, has the size that it has
            with suppress(KvmstateError):
                if not agent.is_connected(domains.xml(self._domain, inactive=False)):
                    continue
                columns, rows = os.get_terminal_size(0)
                agent.run(self._domain, "stty", "-F", self._terminal, "rows", str(rows), "columns", str(columns))


@click.command("ssh")
@machine_options
@click.option("--user", "-l", metavar="NAME", help="Who logs in. Also: USER@NAME.")
@click.option("--port", "-p", type=click.IntRange(1, 65535), metavar="N", help="Default: ssh's own.")
@click.option("--identity", "-i", metavar="FILE", help="The key to log in with.")
@click.option(
    "--connect-timeout",
    metavar="DURATION",
    default="10s",
    show_default=True,
    callback=seconds,
    help="How long it waits for an answer.",
)
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="As ssh(1) -o. Repeatable.")
@click.option("--print", "only_print", is_flag=True, help="Print the command, and do not run it.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(
    name: str,
    user: str | None,
    port: int | None,
    identity: str | None,
    connect_timeout: int,
    options: tuple[str, ...],
    only_print: bool,
    command: tuple[str, ...],
    **given: Any,
) -> int:
    """Log in to a guest by ssh; its address is found.

    The address is one that libvirt's DHCP leases, the guest agent or the host's ARP table tell. Of a machine on a host
    that is reached by ssh, the way leads through that host. Where no address is known, and this machine has
    libvirt-ssh-proxy, the way is the machine's vsock. COMMAND runs in the guest; the exit code is ssh's.
    """
    login, at, name = name.rpartition("@")
    user = user or (login if at else None)
    with opened_one(name, **given) as (host, seen):
        if seen.state != "running":
            raise HostError(f"{name} is {seen.state}", f"kvmstate vm {'unpause' if seen.active else 'start'} {name}")
        from kvmstate.host import ssh as way
        from kvmstate.host.addresses import reachable
        from kvmstate.host.vsock import destination

        found = reachable(seen.domain)
        options = (*options, *([f"ProxyCommand={way.proxy(host.address)}"] if way.is_ssh(host.address) else []))
        target = found[0] if found else destination(host, seen.domain)
        if target is None:
            raise HostError(
                f"no address of {name} is known",
                f"`kvmstate vm wait {name} --for address` waits; `kvmstate vm console {name}` needs none",
            )
    # of two, ssh takes the first
    options = (*options, f"ConnectTimeout={connect_timeout}")
    words = ["ssh", *(part for option in options for part in ("-o", option))]
    words += ["-p", str(port)] if port else []
    words += ["-l", user] if user else []
    words += ["-i", identity] if identity else []
    words += [target, *command]
    if only_print:
        import shlex

        click.echo(shlex.join(words))
        return 0
    if shutil.which("ssh") is None:
        raise UsageError("there is no ssh on this machine", f"its address is {target}")
    sys.stdout.flush()
    # job control and signals are ssh's own then
    return os.execvp("ssh", words)
