"""kvmstate vm, on libvirt's test driver: each connection is a host of its own, with one machine, `test`, that runs."""

from __future__ import annotations

import json

import pytest
from harness import kvmstate

HOST = ("-c", "test:///default")


def test_a_running_machine_is_not_started_again() -> None:
    done = kvmstate("vm", "start", "test", *HOST, "--json")
    assert done.code == 0
    assert json.loads(done.out)["results"] == [
        {"message": "test: is running already", "machine": "test", "state": "running", "note": "", "changed": False}
    ]


def test_list_takes_patterns() -> None:
    done = kvmstate("vm", "list", "t*", *HOST)
    assert done.out.splitlines()[1].split()[:4] == ["test", "running", "-", "192.168.122.3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("start tesst", "did you mean test?"),
        ("start", "which machine?"),
        ("list no*", "there is no virtual machine no*"),
        ("destroy test", "`kvmstate vm poweroff` switches a machine off"),
        ("stop test", "kvmstate vm shutdown"),
        ("lits", "did you mean list?"),
    ],
)
def test_what_is_meant(words: str, said: str) -> None:
    verb, *names = words.split()
    done = kvmstate("vm", verb, *names, *HOST)
    assert done.code == 1
    assert said in done.err
