"""Filters for addresses in templates have the words and the answers of Ansible's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import load

ANSWERS = {
    "'192.168.150.10/24' | ipaddr": "192.168.150.10/24",
    "'192.168.150.10/24' | ipaddr('address')": "192.168.150.10",
    "'192.168.150.10/24' | ipaddr('host/prefix')": "192.168.150.10/24",
    "'192.168.150.10/24' | ipaddr('prefix')": "24",
    "'192.168.150.10/24' | ipaddr('netmask')": "255.255.255.0",
    "'192.168.150.10/24' | ipaddr('network')": "192.168.150.0",
    "'192.168.150.10/24' | ipaddr('broadcast')": "192.168.150.255",
    "'192.168.150.10/24' | ipaddr('subnet')": "192.168.150.0/24",
    "'192.168.150.0/24' | ipaddr('size')": "256",
    "'192.168.150.0/24' | ipaddr(5)": "192.168.150.5/24",
    "'192.168.150.0/24' | ipaddr(-2) | ipaddr('address')": "192.168.150.254",
    "'192.168.150.0/24' | nthhost(1)": "192.168.150.1",
    "'fd00::/64' | nthhost(10)": "fd00::a",
    "'10.0.0.0/16' | ipsubnet(24, 3)": "10.0.3.0/24",
    "'fd00::/48' | ipsubnet(64, 65535)": "fd00:0:0:ffff::/64",
}
WRONG = {
    "'lan' | ipaddr": "'lan' is not an address or a network, such as 192.168.150.0/24",
    "5 | ipaddr": "5 is not an address or a network, such as 192.168.150.0/24",
    "none | nthhost(1)": "None is not an address or a network, such as 192.168.150.0/24",
    "'10.0.0.0/24' | ipaddr('gateway')": "ipaddr knows no 'gateway', but address, host/prefix, prefix",
    "'10.0.0.0/24' | nthhost(256)": "10.0.0.0/24 has no address number 256",
    "'10.0.0.0/24' | nthhost('one')": "10.0.0.0/24 has no address number 'one'",
    "'10.0.0.0/24' | ipsubnet(16, 0)": "10.0.0.0/24 has no part number 0 of prefix length 16",
    "'10.0.0.0/24' | ipsubnet(26, 4)": "10.0.0.0/24 has no part number 4 of prefix length 26",
    "'10.0.0.0/24' | ipsubnet(26, -1)": "10.0.0.0/24 has no part number -1 of prefix length 26",
    "'10.0.0.0/24' | ipsubnet(99999999, 1)": "10.0.0.0/24 has no part number 1 of prefix length 99999999",
}


def network(expression: str) -> str:
    labels = f'{{a: "{{{{ {expression} }}}}"}}'
    return f"apiVersion: kvmstate/v1\nkind: Network\nmetadata:\n  name: lan\n  labels: {labels}\nspec: {{}}\n"


def test_addresses_are_told(tmp_path: Path) -> None:
    for number, expression in enumerate(ANSWERS):
        text = network(expression).replace("name: lan", f"name: lan-{number}")
        (tmp_path / f"{number:02}.yaml.j2").write_text(text)
    found = load([tmp_path]).resources
    assert {r.metadata.name: r.metadata.labels["a"] for r in found} == {
        f"lan-{number}": answer for number, answer in enumerate(ANSWERS.values())
    }


def test_what_is_none_is_an_error_with_its_line(tmp_path: Path) -> None:
    for number, expression in enumerate(WRONG):
        (tmp_path / f"{number:02}.yaml.j2").write_text(network(expression))
    with pytest.raises(ManifestErrors) as told:
        load([tmp_path])
    for problem, said in zip(told.value.problems, WRONG.values(), strict=True):
        assert said in problem.message
        assert problem.line == 5
