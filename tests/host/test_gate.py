"""Every call of libvirt that deletes, undefines, wipes, builds, uploads, resizes or defines, and what stands before it.

The table is complete (the test finds the calls in the code), and each one is reachable only with a Permit, which is
asked first, over a Configuration that still holds, or for the reason that is written beside it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "kvmstate"
RAW = {
    *("delete", "undefine", "undefineFlags", "wipe", "wipePattern", "build", "upload", "resize", "blockResize"),
    *("defineXML", "defineXMLFlags", "networkDefineXML", "storagePoolDefineXML", "storagePoolCreateXML"),
    *("networkCreateXML",),
    *("createXML", "createXMLFrom", "secretDefineXML", "nwfilterDefineXML", "interfaceDefineXML", "rename"),
    *("blockCommit", "blockPull", "blockCopy", "revertToSnapshot", "restoreFlags", "managedSaveRemove"),
    *("snapshotCreateXML", "checkpointCreateXML", "migrate3", "migrateToURI3"),
}
PERMIT, OVER = "asks its permit first", "over a configuration that still holds, by `redefine`"
NEW = "makes what is not there: libvirt refuses what is"
OWN = "kvmstate's own record or lock, under names that are nobody else's"
TRIED = "a name and a UUID that nobody else has: defined to be looked at, and gone again"
RUN = "a domain that is gone when it is stopped"
SNAPSHOT = "a part of a snapshot's own life, whose checks are in kvmstate.snapshots; no file is deleted by it"
CALLS = {
    ("acceleration", "_probe", "createXML"): RUN,
    ("domains", "_undefine", "undefineFlags"): PERMIT,
    ("domains", "block_resize", "blockResize"): PERMIT,
    ("domains", "define", "defineXMLFlags"): OVER,
    ("domains", "start_as", "createXML"): "starts what is off, and leaves what is defined; no file is made or written",
    ("domains", "tried", "defineXMLFlags"): TRIED,
    ("domains", "tried", "undefineFlags"): TRIED,
    ("domains", "remove_trials", "undefineFlags"): TRIED,
    ("domains", "rename", "rename"): "keeps everything; libvirt refuses a name that is taken",
    ("host_interfaces", "_can_define", "interfaceDefineXML"): "a document that every driver refuses",
    ("host_interfaces", "apply", "interfaceDefineXML"): OVER,
    ("host_interfaces", "remove", "undefine"): PERMIT,
    ("migrations", "send", "migrate3"): NEW,
    ("migrations", "send", "migrateToURI3"): NEW,
    ("networks", "define", "networkDefineXML"): OVER,
    ("networks", "undefine", "undefine"): PERMIT,
    ("networks", "way", "networkCreateXML"): "has no definition, and nothing is on it when it is stopped",
    ("managed_secrets", "define", "secretDefineXML"): OVER,
    ("managed_secrets", "undefine", "undefine"): PERMIT,
    ("network_filters", "define", "nwfilterDefineXML"): OVER,
    ("network_filters", "undefine", "undefine"): PERMIT,
    ("pools", "_build", "build"): "makes a folder where there is none, see tests/behaviours/test_pool_starts.py",
    ("pools", "build", "build"): PERMIT,
    ("pools", "define", "storagePoolDefineXML"): OVER,
    ("pools", "delete", "delete"): PERMIT,
    ("pools", "look", "storagePoolCreateXML"): "lists a folder, builds nothing and is never defined",
    ("pools", "undefine", "undefine"): PERMIT,
    (
        "power",
        "restore_from",
        "restoreFlags",
    ): "starts what a file holds; the file stays, and libvirt refuses one that runs",
    ("secrets", "_define", "secretDefineXML"): OWN,
    ("secrets", "delete", "undefine"): OWN,
    ("secrets", "release", "undefine"): OWN,
    ("snapshots", "commit", "blockCommit"): SNAPSHOT,
    ("snapshots", "copy", "blockCopy"): PERMIT,
    ("snapshots", "create_external", "snapshotCreateXML"): SNAPSHOT,
    ("snapshots", "create_internal", "snapshotCreateXML"): SNAPSHOT,
    ("snapshots", "delete", "delete"): SNAPSHOT,
    ("snapshots", "pull", "blockPull"): SNAPSHOT,
    ("snapshots", "redefine", "snapshotCreateXML"): SNAPSHOT,
    ("snapshots", "restore", "restoreFlags"): SNAPSHOT,
    ("snapshots", "revert_internal", "revertToSnapshot"): SNAPSHOT,
    ("snapshots", "start_idle", "createXML"): RUN,
    ("volumes", "_made", "createXML"): NEW,
    ("volumes", "_made", "createXMLFrom"): NEW,
    ("volumes", "delete", "delete"): PERMIT,
    ("volumes", "resize", "resize"): PERMIT,
    ("volumes", "upload", "upload"): PERMIT,
    ("volumes", "wipe", "wipePattern"): PERMIT,
}
# The functions of this package, which the names above are also names of
PACKAGED = {
    "host_interfaces",
    "networks",
    "network_filters",
    "pools",
    "volumes",
    "domains",
    "snapshots",
    "secrets",
    "managed_secrets",
    "disk_source",
    "re",
    "self",
}


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node


def raw_calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAW:
            home = node.func.value
            if not (isinstance(home, ast.Name) and home.id in PACKAGED):
                yield node


def test_the_table_of_calls_is_complete() -> None:
    found = {
        (path.stem, name, call.func.attr)  # type: ignore[attr-defined]
        for path in sorted((PACKAGE / "host").glob("*.py"))
        for name, function in functions(path)
        for call in raw_calls(function)
    }
    assert found == set(CALLS)


def test_a_permit_is_asked_right_before_the_call() -> None:
    for (module, name, raw), how in CALLS.items():
        if how is not PERMIT:
            continue
        every = dict(functions(PACKAGE / "host" / f"{module}.py"))
        asking = [name] if not name.startswith("_") else callers(every, name)
        assert asking, f"nothing calls {module}.{name}"
        for each in asking:
            function = every[each]
            assert "permit" in {arg.arg for arg in function.args.args}, f"{module}.{each} takes no permit"
            target = raw if each == name else name
            asked = min(lines(function, "check"), default=10**9)
            assert asked < min(lines(function, target)), f"{module}.{each} calls {target} before it asks"


def test_what_is_defined_over_something_says_over_what() -> None:
    """`define` is for what is not there; outside of `host` it is called where nothing was observed only."""
    modules = ("domains", "host_interfaces", "networks", "network_filters", "pools")
    for module in modules:
        every = dict(functions(PACKAGE / "host" / f"{module}.py"))
        assert "check" in {call.func.attr for call in ast.walk(every["redefine"]) if is_method(call)}  # type: ignore[attr-defined]
    defining = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "host"
        for call in ast.walk(ast.parse(path.read_text()))
        if is_method(call) and ast.unparse(call.func) in {f"{m}.define" for m in modules}  # type: ignore[attr-defined]
    }
    assert defining == {
        "kinds/host_interface/ops.py",
        "kinds/network/ops.py",
        "kinds/network/restart.py",
        "kinds/network_filter/ops.py",
        "kinds/storage_pool/ops.py",
        "kinds/virtual_machine/ops.py",
        "kinds/virtual_machine/rebuild.py",
    }


def test_permits_are_made_by_the_gate_only() -> None:
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Permit"
    }
    assert makers == {"apply/gate.py", "host/permit.py"}


def test_no_raw_call_is_made_outside_of_host() -> None:
    telling = RAW - {"delete", "upload", "build", "undefine", "rename", "resize", "wipe"}
    outside = {
        (path.relative_to(PACKAGE).as_posix(), call.func.attr)  # type: ignore[attr-defined]
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "host"
        for call in ast.walk(ast.parse(path.read_text()))
        if is_method(call) and call.func.attr in telling  # type: ignore[attr-defined]
    }
    assert outside == set()


def callers(every: dict[str, ast.FunctionDef], name: str) -> list[str]:
    return [each for each, function in every.items() if each != name and lines(function, name)]


def lines(function: ast.FunctionDef, name: str) -> list[int]:
    return [
        call.lineno
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")) == name
    ]


def is_method(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
