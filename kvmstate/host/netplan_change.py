"""A change of netplan's files that is kept, or taken back.

What it writes is in /run/netplan, which comes before /etc/netplan, until it is kept. When nobody keeps it, a timer of
systemd's takes it away and applies what is left, also where this process was killed; and a start of the host finds what
there was before. `netplan try` would not do: it refuses bridges and bonds with parameters.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import netplan_xml
from kvmstate.host.netplan_files import Config, Id, Stanza
from kvmstate.host.on_host import Run

# Until what is not kept is taken away
SECONDS = 60
# An interface may take so long to come up, so that there is time left to tell
_COMES_UP = 40
_UNDO, _APPLY = "kvmstate-netplan-undo", "kvmstate-netplan-apply"
# what a transaction has done so far; renamed by whoever ends it, which one alone can do
_FOLDER = "/run/kvmstate-netplan"
_TAKE_BACK = f"""
rm -rf {_FOLDER}.undo
mv {_FOLDER} {_FOLDER}.undo || exit 0
cd {_FOLDER}.undo
systemctl stop {_APPLY}.service
while read -r name; do rm -f "/run/netplan/$name"; done <files
while read -r link; do ip link delete "$link"; done <links
sh again
netplan apply
while read -r port; do ip link set "$port" nomaster; done <ports
sh settings
rm -rf {_FOLDER}.undo
"""
_KEEP = f"""
mv {_FOLDER} {_FOLDER}.kept 2>/dev/null || {{ echo too late >&2; exit 1; }}
IFS='
'
cd /run/netplan
names=$(sort -u {_FOLDER}.kept/files)
for name in $names; do
  cp -p "$name" "/etc/netplan/.$name.new" || {{ rm -f /etc/netplan/.*.new; mv {_FOLDER}.kept {_FOLDER}; exit 1; }}
done
systemctl stop {_UNDO}.timer
for name in $names; do
  mv "/etc/netplan/.$name.new" "/etc/netplan/$name"
  ! grep -qx '# nothing' "/etc/netplan/$name" || rm "/etc/netplan/$name"
  rm "$name"
done
rm -r {_FOLDER}.kept
"""
_OTHER = "echo another change of interfaces is underway there, for a minute at most >&2; exit 1"
# systemd-networkd keeps what it has made of a VLAN's file until it ends, and makes the link so again
_AGAIN = "netplan generate; systemctl restart systemd-networkd"
# in the place of a file that goes
_NOTHING = "# nothing\nnetwork: {version: 2}\n"


class NetplanChange:
    def __init__(self, run: Run) -> None:
        self._run = run
        # whether it has written files, and which
        self._begun, self._files = False, set[str]()

    def make(self, before: Config, after: Config, texts: Mapping[str, str | None], late: list[str]) -> None:
        """Write files, and have netplan apply them; the time until that is taken back begins here."""
        made, gone = _others(after, before), _others(before, after)
        again = [_AGAIN] if any(Id("vlans", name) in after.all for name in made) else []
        if taken := sorted(links(self._run).intersection(made) - {*gone}):
            raise HostError(f"the host has a device {taken[0]}, which netplan has not made", "choose another name")
        for name in texts:
            file = before.files.get(name)
            if file and file.folder == "/run/netplan" and name not in self._files:
                raise HostError(f"{file.folder}/{name} goes with the next start of the host", "have it in /etc/netplan")
        self._set_timer()
        self._files |= {*texts}
        had, has = _ports(before), _ports(after)
        changed = [id_.name for id_, stanza in before.all.items() if stanza != after.all.get(id_)]
        drop = [f"ip link delete dev {shlex.quote(name)} || :" for name in gone]
        # systemd-networkd leaves alone what it has no file of any more
        leave = [f"ip link set dev {shlex.quote(port)} nomaster || :" for port in had - has]
        work = [
            "{",
            *drop,
            *again,
            "netplan apply &&",
            "{",
            *leave,
            *late,
            ":; }",
            f"}} >{_FOLDER}/said 2>&1",
            f"echo $? >{_FOLDER}/code",
        ]
        script = [
            "umask 077; set -e",
            f"rm -f {_FOLDER}/code",
            *_noted("files", texts),
            *_noted("links", made),
            *_noted("again", again),
            *_noted("ports", has - had),
            *_noted("settings", bridged(before, changed)),
            *(_written(f"/run/netplan/{name}", _NOTHING if text is None else text) for name, text in texts.items()),
            "netplan generate",
            _written(f"{_FOLDER}/apply", "\n".join(work)),
            f"systemd-run --quiet --collect --unit={_APPLY} sh {_FOLDER}/apply",
        ]
        self._run("sh", "-c", "\n".join(script))
        self._until_applied()

    def _set_timer(self) -> None:
        timer = f"systemd-run --quiet --collect --unit={_UNDO} --on-active={SECONDS} --timer-property=AccuracySec=1s"
        first = f"systemctl stop {_UNDO}.timer" if self._begun else f"[ ! -e {_FOLDER} ] || {{ {_OTHER}; }}"
        # a file: systemd reads a unit with a script in it otherwise, once it reloads, which netplan has it do
        script = (
            first,
            _written(f"{_FOLDER}.sh", _TAKE_BACK),
            f"{timer} sh {_FOLDER}.sh",
            f"mkdir -p {_FOLDER} /run/netplan /etc/netplan",
        )
        try:
            self._run("sh", "-c", " && ".join(script))
        except ConnectionFailed:
            self._begun = True
            raise
        self._begun = True

    def _until_applied(self) -> None:
        def ended() -> bool:
            return bool(self._run("sh", "-c", f"cat {_FOLDER}/code 2>/dev/null || :").strip())

        if not holds(ended):
            raise HostError(f"netplan apply takes longer than {_COMES_UP} s")
        if self._run("cat", f"{_FOLDER}/code").strip() != "0":
            # behind a traceback
            raise HostError(f"netplan apply: {self._run('tail', '-n', '1', f'{_FOLDER}/said').strip()}")

    def keep(self) -> None:
        if not self._begun:
            return
        try:
            self._run("sh", "-c", _KEEP)
        except HostError as error:
            if error.message == "too late":
                raise HostError(f"it took more than {SECONDS} s until the host was reached again") from error
            raise

    def take_back(self) -> None:
        """Where the host is not reached for it, the timer does it."""
        end, asked = time.monotonic() + 2 * SECONDS, False
        while self._begun:
            try:
                if not asked:
                    self._run("systemctl", "--no-block", "start", f"{_UNDO}.service")
                    asked = True
                if not self._run("sh", "-c", f"ls -d {_FOLDER} {_FOLDER}.undo 2>/dev/null || :").strip():
                    break
            except ConnectionFailed as error:
                if time.monotonic() > end:
                    told = f"the host is not reached {2 * SECONDS} s later, when all should be as it was before"
                    raise ConnectionFailed(told) from error
            except HostError:
                # it has begun by itself
                asked = True
            if time.monotonic() > end:
                raise HostError(f"netplan does not end on the host: see `journalctl -u {_UNDO}` there")
            time.sleep(1)


def holds(ask: Callable[[], bool]) -> bool:
    """Whether it does within some time. Raises HostError where it cannot be told in the end."""
    end = time.monotonic() + _COMES_UP
    while True:
        failed: HostError | None = None
        try:
            if ask():
                return True
        except HostError as error:
            failed = error
        if time.monotonic() > end:
            if failed:
                raise failed
            return False
        time.sleep(1)


def _written(path: str, text: str) -> str:
    return f"printf %s {shlex.quote(text)} >{shlex.quote(path)}"


def _noted(file: str, words: Iterable[str]) -> Iterator[str]:
    """Lines for a file of the transaction."""
    yield f"touch {_FOLDER}/{file}"
    yield from (f"printf '%s\\n' {shlex.quote(word)} >>{_FOLDER}/{file}" for word in words)


def _others(config: Config, than: Config) -> list[str]:
    """The virtual links of a configuration that another one does not have, or has so that they are to be made again."""
    return [
        id_.name
        for id_, stanza in config.all.items()
        if id_.section != "ethernets" and _made_as(stanza, id_) != _made_as(than.all.get(id_), id_)
    ]


def _made_as(stanza: Stanza | None, id_: Id) -> object:
    """What of a link cannot be changed while it is there. Guests are plugged into bridges, which stay."""
    if stanza is None or id_.section == "bridges":
        return stanza is not None
    return [stanza.get(key) for key in ("id", "link", "parameters")]


def _ports(config: Config) -> set[str]:
    return {str(port) for stanza in config.all.values() for port in stanza.get("interfaces") or ()}


def bridged(config: Config, names: Iterable[str]) -> Iterator[str]:
    """Commands for what systemd-networkd tells new bridges only."""
    for name in names:
        if (stanza := config.all.get(Id("bridges", name))) is not None:
            stp, seconds = netplan_xml.bridge(stanza)
            said = f"stp_state {int(stp)} forward_delay {100 * seconds:.0f}"
            yield f"ip link set dev {shlex.quote(name)} type bridge {said} || :"


def links(run: Run, *which: str) -> set[str]:
    """The host's, or those that are `up`."""
    told = run("ip", "-brief", "link", "show", *which).splitlines()
    return {line.split()[0].partition("@")[0] for line in told if line.split()}
