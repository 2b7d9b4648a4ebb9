"""What the verbs share: which machines are meant, and what is told of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kvmstate.cli.formats import telling
from kvmstate.cli.options import complete_addresses, connect_option, env_option, folder_option, inputs
from kvmstate.cli.vm.holding import Hold, suspend
from kvmstate.errors import HostError, KvmstateError, UsageError
from kvmstate.views.formats import TEXT, Format

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing, Standings
    from kvmstate.cli.options import Inputs
    from kvmstate.host import Host
    from kvmstate.host.overview import Seen

F = TypeVar("F", bound=Callable[..., object])
_MACHINES = "domain/"
# So many machines at a time
PARALLEL = 10


@dataclass(frozen=True)
class At:
    """The machines that a verb is about, on their host."""

    host: Host
    seen: Sequence[Seen]
    standings: Standings


@dataclass(frozen=True)
class Done:
    """What became of one machine: in words after its name, and `facts` for programs. `state` is its state now."""

    text: str
    state: str
    facts: dict[str, object] = field(default_factory=dict)


def unchanged(seen: Seen) -> Done:
    """There is nothing to do."""
    return Done(f"is {seen.state} already", seen.state, {"changed": False})


def changed(text: str, state: str, **facts: object) -> Done:
    """It was done, and the machine is in this state."""
    return Done(text, state, {"changed": True, **facts})


def installs(seen: Seen) -> bool:
    """Whether what runs is an installer."""
    from kvmstate.host import domains, installation

    return seen.active and installation.runs(domains.xml(seen.domain, inactive=False))


def spare_installer(seen: Seen) -> None:
    """Refuse what stops a machine whose installer runs: an end by somebody's button would count as its own. Raises
    HostError."""
    if installs(seen):
        name = seen.domain.name
        raise HostError("its installer runs", f"wait for its end; `kvmstate vm poweroff {name}` cuts it off")


def _plain(text: str) -> str:
    """A name, also of an address: domain/web-1."""
    return text.removeprefix(_MACHINES)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [_plain(each) for each in complete_addresses(context, parameter, _MACHINES + incomplete)]


def place_options(command: F) -> F:
    """-c, --env, -C: which host."""
    for decorate in (
        connect_option,
        env_option,
        partial(folder_option, what="Where kvmstate.yaml is, whose host and labels count."),
    ):
        command = decorate(command)
    return command


def machines_options(command: F) -> F:
    """NAME..., --selector and which host, for `opened`."""
    for decorate in (
        place_options,
        click.option(
            "--selector",
            "-l",
            metavar="LABELS",
            default="",
            help="Those with these labels in the manifests of this folder, such as tier=web,env!=test.",
        ),
        click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_complete),
    ):
        command = decorate(command)
    return command


def machine_options(command: F) -> F:
    """One NAME and which host, for `opened_one`."""
    return click.argument("name", metavar="NAME", shell_complete=_complete)(place_options(command))


@contextmanager
def opened(
    names: tuple[str, ...], selector: str, connect: str | None, env: str | None, folder: Path, every: bool = False
) -> Iterator[At]:
    """The machines of these names, or patterns of them, and with these labels; of a verb for `every` machine all, when
    neither is said. Raises UsageError for what names nothing, ManifestErrors, ConnectionFailed and HostError."""
    if not names and not selector and not every:
        raise UsageError("which machine?", "say NAME, a pattern such as 'web-*', or --selector tier=web")
    asked = inputs((folder,), env, connect=connect)
    wanted = [_plain(name) for name in names]
    labelled = _labelled(asked, selector) if selector else None
    with _host(asked) as host:
        from kvmstate.apply.standing import Standings
        from kvmstate.host.overview import look

        patterns = [name for name in wanted if set(name) & set("*?[")]
        found = look(host.connection, None if patterns or not (wanted or selector) else {*wanted, *(labelled or ())})
        if labelled is not None:
            found = [each for each in found if each.domain.name in labelled]
        for name in wanted:
            if not any(_matches(each, name) for each in found):
                with_labels = f" with {selector}" if selector else ""
                raise UsageError(f"there is no virtual machine {name}{with_labels} on {host.uri}", _guess(host, name))
        if wanted:
            found = [each for each in found if any(_matches(each, name) for name in wanted)]
        yield At(host, found, Standings(host))


def _matches(seen: Seen, name: str) -> bool:
    # a name may have brackets of its own
    return name == seen.domain.name or fnmatchcase(seen.domain.name, name)


@contextmanager
def opened_one(name: str, connect: str | None, env: str | None, folder: Path) -> Iterator[tuple[Host, Seen]]:
    """One machine by its name. Raises as `opened` does."""
    with opened((name,), "", connect, env, folder) as at:
        if len(at.seen) > 1:
            raise UsageError(f"{name} names {len(at.seen)} machines, and this is for one", "say which one")
        yield at.host, at.seen[0]


@contextmanager
def _host(asked: Inputs) -> Iterator[Host]:
    from kvmstate.host import open_host

    # the project file is read only where it may name the host
    with open_host(asked.connect or asked.project().connection) as host:
        yield host


def _guess(host: Host, name: str) -> str:
    from kvmstate.host import domains
    from kvmstate.manifest.suggest import nearest

    close = nearest(name, [each.name for each in domains.all_domains(host.connection)])
    return f"did you mean {close}?" if close else "`kvmstate vm list` lists them"


def _labelled(asked: Inputs, selector: str) -> set[str]:
    from kvmstate.host.objects import Domain
    from kvmstate.manifest.labels import selected

    loaded = asked.load()
    if loaded.manifests.empty:
        raise UsageError("labels are in manifests, and there are none here", "-C FOLDER says where they are")
    found = {id_.name for id_ in selected(loaded.manifests.resources, selector) if id_.kind == Domain.type}
    if not found:
        raise UsageError(f"no machine of project {loaded.project.name} has labels {selector}", "see metadata.labels")
    return found


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Workers that nobody waits for in the end: who interrupts a shutdown does not wait for the guest."""
    pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="vm")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def act(
    fmt: Format, at: At, do: Callable[[Seen, Standing], Done], state: str | None = None, hold: Hold | None = None
) -> int:
    """Do it to every machine, several at a time, and tell of each as it is done: what became of it, and what its
    manifest will do next. One that fails does not stop the others; the exit code. `state` is the one that it brings
    them to, where a daemon may undo it; see `Hold`."""
    from kvmstate.cli import complain

    hold = hold or Hold()
    at = suspend(at, hold)

    def one(seen: Seen, standing: Standing) -> Done:
        if state and seen.state != state:
            hold.refuse(standing, state)
            if state in ("running", "paused") and seen.state != "running":
                standing.check_start()
        return do(seen, standing)

    standings = {each.domain.name: at.standings.of(each.domain) for each in at.seen}
    failed = 0
    with telling(fmt) as tell, _pool() as pool:
        asked = {pool.submit(one, each, standings[each.domain.name]): each for each in at.seen}
        for future in as_completed(asked):
            name = asked[future].domain.name
            try:
                done = future.result()
            except KvmstateError as error:
                failed += 1
                if fmt == TEXT:
                    complain(KvmstateError(f"{name}: {error.message}", error.hint))
                else:
                    tell(error.message, machine=name, error=error.message, hint=error.hint)
                continue
            note = standings[name].fate(done.state)
            text = f"{name}: {done.text}" + (f"\n  {note}" if note else "")
            tell(text, machine=name, state=done.state, note=note, **done.facts)
    return 1 if failed else 0
