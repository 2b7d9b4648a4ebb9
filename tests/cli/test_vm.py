"""kvmstate vm, on libvirt's test driver: each connection is a host of its own, which a file describes."""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import kvmstate

from kvmstate.apply.standing import Standing
from kvmstate.cli.vm.holding import Hold
from kvmstate.errors import HostError, UsageError
from kvmstate.host import Host, ssh, vsock
from kvmstate.host.screen import Display, png
from kvmstate.manifest.labels import selected
from kvmstate.model.inventory import Entry
from kvmstate.model.keys import chord, typing
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId

DOCS = Path(__file__).parents[2] / "docs" / "jobs" / "daily-work.md"
STATES = ("running", "paused", "stopped", "saved")
# as https://libvirt.org/drvtest.html has it: VIR_DOMAIN_RUNNING, PAUSED and SHUTOFF
_RUNSTATE = {"running": 1, "paused": 3, "stopped": 5, "saved": 5}
TABLE = (
    *("start", "shutdown", "poweroff", "reboot", "reset", "pause", "unpause", "save", "restore"),
    *("wait NAME --for running --timeout 0s", "ssh", "display", "screenshot NAME -o screen.png"),
    *("send-key NAME ctrl-alt-delete", "exec NAME -- uptime", "copy NAME:/etc/hostname ."),
)


@pytest.fixture
def host(tmp_path: Path) -> str:
    """With a machine in each state, of its name."""
    domains = ""
    for state in STATES:
        more = "<test:hasmanagedsave/>" if state == "saved" else ""
        domains += f"""<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>{state}</name>
        <memory>1024</memory><os><type>hvm</type></os>
        <test:runstate>{_RUNSTATE[state]}</test:runstate>{more}</domain>"""
    (tmp_path / "host.xml").write_text(f"<node>{domains}</node>")
    return f"test://{tmp_path}/host.xml"


def test_each_verb_in_each_state_says_what_the_docs_tell(
    host: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = []
    for verb in TABLE:
        cells = []
        for state in STATES:
            words = verb.replace("NAME", state).split() if "NAME" in verb else [verb, state]
            done = kvmstate("vm", words[0], "-c", host, *words[1:])
            said = (done.out or done.err).splitlines()[0].removeprefix("error: ").removeprefix(f"{state}: ")
            said = re.sub(rf"^{state} (?=is|has)|(?<= of ){state}", "NAME ", said).replace("NAME  ", "NAME ")
            cells.append(said + (f" ({done.code})" if done.code else ""))
        rows.append(f"| `{verb}` | {' | '.join(cells)} |")
    head = ["| | " + " | ".join(STATES) + " |", "|---|" + "---|" * len(STATES)]
    table = "\n".join([*head, *rows]) + "\n"
    text = DOCS.read_text(encoding="utf-8")
    if request.config.getoption("--regenerate"):
        text = re.sub(r"\| \| running \|(?:.|\n)*?\n(?=\n)", table, text)
        DOCS.write_text(text, encoding="utf-8")
    assert table in text, f"pytest --regenerate {Path(__file__).name} writes it again:\n{table}"


def test_what_programs_are_told(host: str) -> None:
    done = kvmstate("vm", "pause", "*", "-c", host, "--json")
    assert done.code == 1
    told = {each["machine"]: each for each in json.loads(done.out)["results"]}
    assert told["running"] == {
        "message": "running: paused",
        "machine": "running",
        "state": "paused",
        "note": "",
        "changed": True,
    }
    assert (told["paused"]["changed"], told["stopped"]["error"]) == (False, "it is stopped")


def test_list(host: str) -> None:
    done = kvmstate("vm", "list", "s*", "-c", host)
    assert [line.split()[:3] for line in done.out.splitlines()[1:]] == [[n, n, "-"] for n in ("saved", "stopped")]


def test_list_tells_the_last_io_error() -> None:
    done = kvmstate("vm", "list", "-c", "test:///default")
    assert done.out.splitlines()[1].split(maxsplit=4) == [
        *("test", "running", "-", "192.168.122.3"),
        "I/O error: vda: I/O error",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("start runing", "did you mean running?"),
        ("start", "which machine?"),
        ("list no*", "there is no virtual machine no*"),
        ("destroy running", "`kvmstate vm poweroff` switches a machine off"),
        ("stop running", "kvmstate vm shutdown"),
        ("lits", "did you mean list?"),
        ("save running paused --file /tmp/x", "--file is of one machine"),
        ("save running --file x", "the host needs an absolute path"),
        ("reboot running --apply-pending", "no project owns it"),
    ],
)
def test_what_is_meant(words: str, said: str, host: str) -> None:
    verb, *names = words.split()
    done = kvmstate("vm", verb, *names, "-c", host)
    assert done.code == 1
    assert said in done.err


def standing(said: str | None = None, daemon: str = "", **lifecycle: object) -> Standing:
    spec = {} if said is None else {"state": said}
    entry = Entry(ResourceId("domain", "web"), "", (spec,), Lifecycle.model_validate(lifecycle))
    return Standing("web", "shop", entry, daemon)


@pytest.mark.parametrize(
    ("known", "state", "fights", "fate"),
    [
        (Standing("web"), "stopped", False, ""),
        (standing(), "running", False, ""),
        (standing("ignore", "ann"), "stopped", False, ""),
        (standing(daemon="ann", ignoreChanges=["state"]), "stopped", False, ""),
        (standing(), "stopped", False, "says running: the next apply starts it"),
        (standing(), "paused", False, "the next apply resumes it"),
        (standing(), "saved", False, "the next apply starts it from its saved memory"),
        (standing("paused"), "stopped", False, "the next apply starts it, paused"),
        (standing("stopped"), "running", False, "the next apply shuts it down"),
        (standing(daemon="ann"), "stopped", True, "and the daemon ann keeps it so"),
        (standing(daemon="ann", mode="observe"), "stopped", False, "the next apply starts it"),
        (replace(standing(daemon="ann"), mode="observe"), "stopped", False, "the next apply starts it"),
        (replace(standing(daemon="ann", mode="enforce"), mode="observe"), "stopped", True, "ann keeps it so"),
        (standing(daemon="ann", suspend=True), "stopped", False, "says running, and lifecycle.suspend leaves it alone"),
    ],
)
def test_what_the_manifest_will_do(known: Standing, state: str, fights: bool, fate: str) -> None:
    assert known.fights(state) == fights
    assert known.fate(state).endswith(fate)
    assert bool(fate) == bool(known.fate(state))
    if fights:
        with pytest.raises(HostError, match=r"the daemon .* would undo it at once"):
            Hold().refuse(known, state)
    Hold(False).refuse(known, state)


def test_a_picture_is_png_whatever_the_host_gives(tmp_path: Path) -> None:
    made = png(b"P6\n# seen by nobody\n2 1\n255\n" + bytes([255, 0, 0, 0, 10, 255]))
    assert made == png(made)
    head = made.index(b"IHDR") + 4
    assert struct.unpack(">II", made[head : head + 8]) == (2, 1)
    at = made.index(b"IDAT")
    (length,) = struct.unpack(">I", made[at - 4 : at])
    assert zlib.decompress(made[at + 4 : at + 4 + length]) == bytes([0, 255, 0, 0, 0, 10, 255])
    for end in (b"IHDR", b"IDAT", b"IEND"):
        at = made.index(end)
        (length,) = struct.unpack(">I", made[at - 4 : at])
        assert struct.unpack(">I", made[at + 4 + length :][:4])[0] == zlib.crc32(made[at : at + 4 + length])
    with pytest.raises(HostError, match="neither PNG nor PPM"):
        png(b"GIF89a")


def test_keys() -> None:
    assert chord("ctrl-alt-Delete") == chord("KEY_LEFTCTRL+KEY_LEFTALT+KEY_DELETE") == [29, 56, 111]
    assert typing("aB/\n") == [[30], [42, 48], [53], [28]]
    with pytest.raises(ValueError, match="no key of a US keyboard types 'ä'"):
        typing("ä")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=web", {"a"}),
        ("tier==web,env", set()),
        ("tier!=web", {"b", "c"}),
        ("tier", {"a", "b"}),
        ("!tier", {"c"}),
        ("tier=db, env=test", {"b"}),
    ],
)
def test_labels(selector: str, found: set[str]) -> None:
    labels = {"a": {"tier": "web"}, "b": {"tier": "db", "env": "test"}, "c": {}}
    known = [
        Resource(ResourceId("domain", name), None, Metadata(name=name, labels=these)) for name, these in labels.items()
    ]
    assert {id_.name for id_ in selected(known, selector)} == found


def test_a_selector_that_is_none() -> None:
    with pytest.raises(UsageError, match="'a=b=c' is not a condition"):
        selected([], "a=b=c")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("qemu+ssh://host/system", ["ssh", "-W", "x", "--", "host"]),
        (
            "qemu+ssh://ann@host:22022/system?keyfile=/k&no_verify=1&command=/s",
            ["/s", "-p", "22022", "-l", "ann", "-i", "/k", "-o", "StrictHostKeyChecking=no", "-W", "x", "--", "host"],
        ),
    ],
)
def test_the_way_to_a_host(uri: str, words: list[str]) -> None:
    assert ssh.words(uri, "-W", "x") == words


@pytest.mark.parametrize(
    ("options", "seconds"), [((), 10), (("--connect-timeout", "1m"), 60), (("-o", "ConnectTimeout=3"), 3)]
)
def test_who_does_not_answer_is_not_waited_for(options: tuple[str, ...], seconds: int) -> None:
    words = kvmstate("vm", "ssh", "ann@test", *options, "--print", "-c", "test:///default").out.split()
    # of two, ssh takes the first
    assert next(word for word in words if "ConnectTimeout" in word) == f"ConnectTimeout={seconds}"
    assert words[-3:-1] == ["-l", "ann"]


def test_a_screen_here_is_shown_by_what_libvirt_hands_the_connection_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = "5b1b4a3e-9a0b-4d0c-8a51-6a3f1d8d2a01"
    (tmp_path / "host.xml").write_text(f"""<node><domain type='test'><name>12</name><uuid>{uuid}</uuid>
        <memory>1024</memory><os><type>hvm</type></os>
        <devices><graphics type='vnc' port='5901' listen='0.0.0.0'/></devices></domain>
        <domain type='test'><name>hidden</name><memory>1024</memory><os><type>hvm</type></os>
        <devices><graphics type='vnc'><listen type='none'/></graphics></devices></domain></node>""")
    viewer = tmp_path / "virt-viewer"
    viewer.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/said\nexit 3\n')
    viewer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    uri = f"test://{tmp_path}/host.xml"
    assert kvmstate("vm", "display", "12", "-c", uri).out == "vnc://127.0.0.1:5901\n"
    assert kvmstate("vm", "display", "12", "--open", "-c", uri).code == 3
    assert (tmp_path / "said").read_text() == f"--attach -c {uri} {uuid}\n"
    # which shows what has no address, too
    assert "the screen of hidden listens nowhere" in kvmstate("vm", "display", "hidden", "-c", uri).err
    assert kvmstate("vm", "display", "hidden", "--open", "-c", uri).code == 3


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("qemu:///system", "127.0.0.1"),
        # by way of the host
        ("qemu+ssh://host/system", "127.0.0.1"),
        ("qemu+tls://host/system", "host"),
        ("qemu+tcp://[fe80::1]/system", "fe80::1"),
    ],
)
def test_an_address_of_all_that_a_host_has_is_the_hosts(uri: str, address: str) -> None:
    everywhere = Display("vnc", "127.0.0.1", 5900, everywhere=True)
    assert everywhere.seen_from(Host(None, uri)).address == address
    alone = Display("vnc", "127.0.0.1", 5900)
    assert alone.seen_from(Host(None, uri)) == alone


@pytest.mark.parametrize(
    ("uri", "device", "target"),
    [
        ("qemu:///system", True, "qemu/web"),
        ("qemu+unix:///system", True, "qemu/web"),
        ("qemu:///session", True, "qemu:session/web"),
        ("qemu:///system", False, None),
        # libvirt's proxy would look for the name behind its own socket
        ("qemu+unix:///system?socket=/run/other", True, None),
        ("qemu+ssh://host/system", True, None),
    ],
)
def test_a_vsock_leads_to_the_machines_of_this_machine(
    uri: str, device: bool, target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = "<vsock><cid address='3'/></vsock>" if device else ""
    xml = f"<domain><devices>{inside}</devices></domain>"
    monkeypatch.setattr(vsock.domains, "xml", lambda domain, inactive: xml)
    domain: Any = SimpleNamespace(name="web")
    assert vsock.destination(Host(None, uri), domain) is None
    (tmp_path / "proxy").touch()
    monkeypatch.setattr(vsock, "_PROXIES", (str(tmp_path / "proxy"),))
    assert vsock.destination(Host(None, uri), domain) == target


def test_who_may_not_read_records_starts_machines_all_the_same(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise HostError("access denied")

    monkeypatch.setattr("kvmstate.apply.standing.records", refused)
    monkeypatch.setattr("kvmstate.apply.standing.stamped_by", lambda xml: "shop" if "paused" in xml else None)
    assert kvmstate("vm", "start", "stopped", "-c", host).out == "stopped: started\n"
    told = kvmstate("vm", "pause", "paused", "-c", host).out
    assert "it is stamped as project shop's, whose record on the host cannot be read" in told
