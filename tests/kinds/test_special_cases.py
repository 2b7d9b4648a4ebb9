"""Where code outside of kinds/ knows a kind, a device or a field by name.

What is special about a kind is to be said by the kind, so that a new one needs no other file. These are the places
where that is not so yet; a new one fails here, and so does one that has gone and still stands in the table.
"""

from __future__ import annotations

import ast
from pathlib import Path

from kvmstate.kinds import ALL_KINDS, ON_HOST
from kvmstate.xmlbind import bindings

PACKAGE = Path(__file__).parents[2] / "kvmstate"
KINDS = {name for kind in ALL_KINDS for name in (kind.word, kind.name)}
# what every kind on hosts has
COMMON = {"xml", "remainder"}
FIELDS = {
    spelled
    for kind in ON_HOST
    for spec in kind.specs
    for b in bindings(spec)  # type: ignore[arg-type]
    if b.name not in COMMON
    for spelled in (b.name, b.alias)
}
# what holds a spec, where a field of it is asked for
SPECS = {"spec", "config", "active", "desired", "written"}

HOST_ROW = "libvirt has calls of their own for each type of object: a row each in host/"
XML = "an element or attribute of libvirt's, not a kind"
MACHINES = "snapshots, images and a host's boot are about virtual machines, whatever other kinds there are"
FETCHED = "contents are fetched before a pass by what fetches them in it"
COMMAND = "a command has the name of a kind"
CLONES = "versions of templates, and nothing else, are drawn there"
LOOKED_AT = "an image is looked at before a manifest names it"
FETCHED_NOW = "a list of checksums is fetched as contents are"
REFERENCE = "the two parts of a volume's name, as a manifest may write them"
SECRETS = "secrets are what other kinds are given"
PICTURE = "a picture of networks has a shape for each thing in it, of which some are kinds"
FILTER = "a word of the filter ipaddr, as Ansible has it"
NETPLAN = "the element that all of netplan's files are in"
DEVICE = "a disk's file and its volume are one and the same"

# By file: how many, and why they are there
KNOWN = {
    "app.py": (1, MACHINES),
    "cli/__init__.py": (1, COMMAND),
    "views/templates.py": (1, CLONES),
    "views/topology.py": (2, PICTURE),
    "cli/pin.py": (1, FETCHED_NOW),
    "cli/cloud_image.py": (2, LOOKED_AT),
    "apply/owners.py": (1, MACHINES),
    "guests/order.py": (1, MACHINES),
    "host/events.py": (1, HOST_ROW),
    "host/netplan_files.py": (1, NETPLAN),
    "host/objects.py": (7, HOST_ROW),
    "host/plugs.py": (1, XML),
    "host/resting.py": (1, HOST_ROW),
    "host/named.py": (2, HOST_ROW),
    "host/snapshots.py": (1, XML),
    "host/uses.py": (7, HOST_ROW),
    "kind/secrets.py": (1, SECRETS),
    "manifest/render_child.py": (1, FILTER),
    "model/reference.py": (1, REFERENCE),
    "plan/sharing.py": (1, MACHINES),
    "reconcile/spool.py": (1, FETCHED),
    "snapshots/files.py": (1, MACHINES),
    "snapshots/revert.py": (1, XML),
    "plan/texts.py": (1, DEVICE),
    "xmlbind/disk_source.py": (1, XML),
}


def places(text: str) -> list[int]:
    """The lines of a module that know one by name."""
    return sorted(line for node in ast.walk(ast.parse(text)) for line in _of(node))


def _of(node: ast.AST) -> list[int]:
    found: list[int] = []
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kvmstate.kinds."):
        found.append(node.lineno)
    elif isinstance(node, ast.Compare):
        operands = [each for side in (node.left, *node.comparators) for each in _constants(side)]
        if {*operands} & KINDS or ({*operands} & FIELDS and "path" in ast.unparse(node)):
            found.append(node.lineno)
    elif isinstance(node, ast.Assign):
        found += [node.lineno] if {*_constants(node.value)} & KINDS and isinstance(node.targets[0], ast.Name) else []
    elif isinstance(node, ast.Dict):
        named = {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        found += [node.lineno] if named & KINDS else []
    elif (
        isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in ("BY_WORD", "BY_NAME")
    ):
        found += [node.lineno] if {*_constants(node.slice)} & KINDS else []
    elif isinstance(node, ast.Call):
        named = {text for arg in node.args for text in _constants(arg)}
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of = node.func.value if isinstance(node.func, ast.Attribute) else next(iter(node.args), None)
        holder = ast.unparse(of) if of else ""
        asks = called in ("getattr", "get") and holder.rpartition(".")[2] in SPECS
        if (called == "ResourceId" and named & KINDS) or (asks and named & FIELDS):
            found.append(node.lineno)
    elif isinstance(node, ast.Attribute) and node.attr in FIELDS:
        found += [node.lineno] if ast.unparse(node.value).rpartition(".")[2] in SPECS else []
    return found


def _constants(node: ast.AST) -> list[str]:
    """The texts that an operand is, or is one of."""
    if isinstance(node, ast.Tuple | ast.Set | ast.List):
        return [text for each in node.elts for text in _constants(each)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_nothing_else_knows_a_kind_or_a_field_by_name() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob("*.py"))
        if "kinds" not in path.relative_to(PACKAGE).parts[:1] and (lines := places(path.read_text(encoding="utf-8")))
    }
    counted = {file: len(lines) for file, lines in found.items()}
    told = {
        f"{file}: {counted.get(file, 0)} special cases (lines {found.get(file)}), and KNOWN says {known}"
        for file in counted.keys() | KNOWN.keys()
        if counted.get(file, 0) != (known := KNOWN.get(file, (0, ""))[0])
    }
    assert sorted(told) == [], "say it in the kind (kvmstate/kind/contract.py) instead; where one has gone, lower KNOWN"


def test_what_is_found() -> None:
    for text in (
        "if id_.kind == 'volume': pass",
        "if kind.word != 'domain': pass",
        "if id_.kind in ('domain', 'network'): pass",
        "x = ResourceId('pool', name)",
        "x = BY_WORD['domain']",
        "x = {'domain': 1}",
        "from kvmstate.kinds.volume.spec import VolumeSpec",
        "x = getattr(change.spec, 'content', None)",
        "x = spec.disks",
        "x = change.spec.max_cpus",
        "if field.path[0] == 'disks': pass",
        "MACHINE = 'domain'",
    ):
        assert places(text) == [1], text
    for text in ("if a == 'other': pass", "x = spec.xml", "x = spec.rest", "x = id_.kind", "x = source.get('network')"):
        assert places(text) == [], text
