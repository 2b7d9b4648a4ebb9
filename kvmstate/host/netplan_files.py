"""netplan's files on a host: what they say together, and edits of their text that leave all else as it is.

What an edit takes out stays as a comment, so that it can come back: https://netplan.readthedocs.io/en/stable/structure-id/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import yaml

from kvmstate.errors import HostError

SECTIONS = {"ethernet": "ethernets", "bridge": "bridges", "vlan": "vlans", "bond": "bonds"}
TYPES = {section: type_ for type_, section in SECTIONS.items()}
# by their names, the later folder is in force: https://netplan.readthedocs.io/en/stable/netplan-generate/
FOLDERS = ("/lib/netplan", "/etc/netplan", "/run/netplan")
Stanza = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Numbers are decimal: to YAML 1.1 a MAC address may be one otherwise."""


# not those of its class
_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^(?:0|[1-9][0-9]*)$"), [*"0123456789"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?i:yes|no|true|false|on|off)$"), [*"yYnNtTfFoO"])


class Id(NamedTuple):
    section: str
    name: str


@dataclass(frozen=True)
class File:
    folder: str
    name: str
    text: str

    @cached_property
    def says(self) -> dict[Id, Stanza]:
        """What it defines of the sections that are known here. Raises HostError."""
        try:
            found = yaml.load(self.text, _Loader)
        except yaml.YAMLError as error:
            raise HostError(f"{self.folder}/{self.name} is not YAML: {error}") from None
        network = (found or {}).get("network") or {}
        return {
            Id(section, str(name)): stanza or {}
            for section in TYPES
            for name, stanza in (network.get(section) or {}).items()
        }


class Config:
    """All files that are in force."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self.files = dict(sorted(files.items()))

    @cached_property
    def all(self) -> dict[Id, Stanza]:
        """Each definition, of all files together."""
        found: dict[Id, Stanza] = {}
        for file in self.files.values():
            for id_, stanza in file.says.items():
                found[id_] = _merged(found.get(id_, {}), stanza)
        return found

    def section(self, name: str) -> str:
        """That of the definition of this name; empty where there is none."""
        return next((id_.section for id_ in self.all if id_.name == name), "")

    def changed(self, texts: Mapping[str, str | None]) -> Config:
        """Give some files other texts; without a text one goes."""
        files = dict(self.files)
        for name, text in texts.items():
            if text is None:
                files.pop(name, None)
            elif name not in files or files[name].text != text:
                files[name] = File("/run/netplan", name, text)
        return Config(files)


def read(told: str) -> Config:
    """`told` are paths and texts of files, in turn, each with a NUL behind it."""
    words = told.split("\0")[:-1]
    files: dict[str, File] = {}
    for path, text in zip(words[::2], words[1::2], strict=True):
        folder, _, name = path.rpartition("/")
        if name not in files or FOLDERS.index(folder) >= FOLDERS.index(files[name].folder):
            files[name] = File(folder, name, text)
    return Config(files)


def _merged(one: Stanza, other: Stanza) -> Stanza:
    """As netplan merges what several files say of one definition."""
    found = dict(one)
    for key, value in other.items():
        before = found.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            found[key] = _merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            found[key] = [*before, *(each for each in value if each not in before)]
        else:
            found[key] = value
    return found


def written(of: str, network: Mapping[str, Any]) -> str:
    """A file of its own for an interface."""
    said = yaml.safe_dump({"network": {"version": 2, **network}}, sort_keys=False, default_flow_style=False)
    return f"# kvmstate: {of}\n{said}"


def with_comments(text: str, mark: str, id_: Id, keys: Collection[str] | None = None) -> str:
    """Make a definition, or only these keys of it, comments that begin with this mark. Raises HostError where other
    things stand on their lines."""
    root = yaml.compose(text)
    network = _child(root, "network")
    section = _child(network[1], id_.section) if network else None
    found = _child(section[1], id_.name) if section else None
    if not (network and section and found):
        return text
    picked = [found]
    if keys is not None and isinstance(found[1], yaml.MappingNode):
        picked = [(key, value) for key, value in found[1].value if key.value in keys]
        if len(picked) == len(found[1].value) > 0:
            # a definition that says nothing is none
            picked = [found]
    if picked == [found] and len(section[1].value) == 1:
        picked = [section]
    lines = text.splitlines(keepends=True)
    for key, value in picked:
        first, last = key.start_mark, _end(value if _is_there(value) else key)
        before, behind = lines[first.line][: first.column], lines[last.line][last.column :].strip()
        if before.strip() or (behind and not behind.startswith("#")):
            _refuse(id_)
        for number in range(first.line, last.line + 1):
            lines[number] = f"{mark}{lines[number]}"
    new = "".join(lines)
    if _without(yaml.load(text, _Loader), id_, keys) != _without(yaml.load(new, _Loader), id_, keys):
        _refuse(id_)
    return new


def without_comments(text: str, mark: str) -> str:
    """Bring back what was made a comment by this mark."""
    return "".join(line.removeprefix(mark) for line in text.splitlines(keepends=True))


def _refuse(id_: Id) -> None:
    why = f"what netplan is told of {id_.name} stands on one line with other things, or in other places as well"
    raise HostError(why, f"write {id_.section}.{id_.name} on lines of its own")


def _child(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == name), None)
    return None


def _is_there(node: yaml.Node) -> bool:
    return bool(node.start_mark.index < node.end_mark.index)


def _end(node: yaml.Node) -> yaml.Mark:
    """Where its text ends: a block ends only where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple):
            last = last[1] if _is_there(last[1]) else last[0]
        return _end(last)
    return node.end_mark


def _without(data: Any, id_: Id, keys: Collection[str] | None) -> Any:
    """All that is said but what is taken out, and what is empty."""
    found = dict((data or {}).get("network") or {})
    section = dict(found.pop(id_.section, None) or {})
    stanza = section.pop(id_.name, None) or {}
    rest = {} if keys is None else {key: value for key, value in stanza.items() if key not in keys}
    return found, section, rest
