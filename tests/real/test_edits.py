"""Every edit in edits.yaml, on a real host: applied, the next plan is empty; taken back, it is empty again."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from functools import cache
from inspect import get_annotations
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kvmstate.app import open_session
from kvmstate.host import domains, open_host
from kvmstate.kind import Kind, Spec
from kvmstate.kind.build import Build, BuildFile, BuildUser
from kvmstate.kinds import BY_NAME, ON_HOST
from kvmstate.kinds.host_interface.spec import Bond, Vlan
from kvmstate.kinds.network.live import SECTIONS, lists_of
from kvmstate.kinds.virtual_machine.settings.cloud_init import CloudInit
from kvmstate.kinds.virtual_machine.settings.ignition import Combustion, Ignition
from kvmstate.kinds.virtual_machine.settings.install import Install, InstallKernel
from kvmstate.kinds.volume.encryption import Encryption
from kvmstate.model.change import Action, Change, Key
from kvmstate.model.effect import Effect
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options
from kvmstate.sandbox import Sandbox
from kvmstate.xmlbind import Section, bindings, document, parse

if TYPE_CHECKING:
    from tests.conftest import Guest

ROOT = Path(__file__).parents[2]
# by libyaml: each worker of a test run reads all of it
TEXT = (Path(__file__).parent / "edits.yaml").read_text().replace("ROOT", str(ROOT))
CASES = yaml.load(TEXT, yaml.CSafeLoader)
ALL = Options(prune=True, allow_empty=True, max_deletes=100)

# fields of a machine that no libvirt here defines
ELSEWHERE = [
    f"VirtualMachine.{field}"
    for field in (
        "controllers[].chassisNr",
        "controllers[].maxEventChannels",
        "controllers[].maxGrantFrames",
        "cputune.cachetune",
        "cputune.cachetune[].caches",
        "cputune.cachetune[].caches[].id",
        "cputune.cachetune[].caches[].level",
        "cputune.cachetune[].caches[].size",
        "cputune.cachetune[].caches[].type",
        "cputune.cachetune[].monitors",
        "cputune.cachetune[].monitors[].level",
        "cputune.cachetune[].monitors[].vcpus",
        "cputune.cachetune[].vcpus",
        "cputune.memorytune",
        "cputune.memorytune[].monitors",
        "cputune.memorytune[].monitors[].vcpus",
        "cputune.memorytune[].nodes",
        "cputune.memorytune[].nodes[].bandwidth",
        "cputune.memorytune[].nodes[].id",
        "cputune.memorytune[].vcpus",
        "features.aia",
        "features.ccfAssist",
        "features.cfpc",
        "features.gic",
        "features.hap",
        "features.hptMaxPageSize",
        "features.hptResizing",
        "features.htm",
        "features.ibs",
        "features.nestedHv",
        "features.ras",
        "features.sbbc",
        "features.xenE820Host",
        "filesystems[].format",
        "filesystems[].gids",
        "filesystems[].gids[].count",
        "filesystems[].gids[].start",
        "filesystems[].gids[].target",
        "filesystems[].spaceHardLimit",
        "filesystems[].spaceSoftLimit",
        "filesystems[].uids",
        "filesystems[].uids[].count",
        "filesystems[].uids[].start",
        "filesystems[].uids[].target",
        "graphics[].multiUser",
        "graphics[].username",
        "graphics[].replaceUser",
        "graphics[].dbusAddress",
        "hostdevs[].wwpn",
        "hostdevs[].auth.secret",
        "hostdevs[].bootLoadparm",
        "interfaces[].routes",
        "interfaces[].routes[].address",
        "interfaces[].routes[].family",
        "interfaces[].routes[].gateway",
        "interfaces[].routes[].metric",
        "interfaces[].routes[].prefix",
        "interfaces[].bandwidth.inbound.floor",
        "interfaces[].ips[].peer",
        "launchSecurity",
        "launchSecurity.cbitpos",
        "launchSecurity.dhCert",
        "launchSecurity.kernelHashes",
        "launchSecurity.policy",
        "launchSecurity.reducedPhysBits",
        "launchSecurity.session",
        "launchSecurity.type",
        "launchSecurity.authorKeyGiven",
        "launchSecurity.guestVisibleWorkarounds",
        "launchSecurity.hostData",
        "launchSecurity.idAuth",
        "launchSecurity.idBlock",
        "launchSecurity.vcek",
        "hostdevs[].writeFiltering",
        "inputs[].model",
        "memories[].alignsize",
        "memories[].pmem",
        "memories[].uuid",
        "memtune.minGuarantee",
        "video[].accel2D",
        "video[].rendernode",
        "disks[].encryption.engine",
        "filesystems[].bootOrder",
    )
]


def declared(section: type[Section], at: str = "") -> Iterator[tuple[str, Any]]:
    """Every field below, as `disks[].cache`, with its cost; not those of what is another resource."""
    for b in bindings(section):
        yield f"{at}{b.alias}", b.effect
        for inner in (each for each in b.sections if not issubclass(each, Spec)):
            yield from declared(inner, f"{at}{b.alias}{'[]' if b.repeated else ''}.")


# fields that no edit changes
BUILD = (
    "",
    *(f".{b.alias}" for b in bindings(Build)),
    *(f".files[].{b.alias}" for b in bindings(BuildFile)),
    *(f".users[].{b.alias}" for b in bindings(BuildUser)),
)
FIXED = {
    "Volume.pool": "a part of its address: in another pool it is another volume",
    "Volume.content.url": "as content.file; a server is another test's matter",
    "Volume.remainder": "what a volume is made from: read when it is made",
    **{
        f"VirtualMachine.tpm.{field}": "of an emulated TPM, which libvirt defines only where swtpm is"
        for field in (
            *("version", "encryption", "encryption.secret"),
            *("debug", "persistentState", "profile", "profileRemoves"),
        )
    },
    "Network.title": "of a newer libvirt than is here: tests/behaviours/test_network_rules.py",
    "Network.description": "of a newer libvirt than is here: tests/behaviours/test_network_rules.py",
    **{f"{kind}.uuid": "libvirt changes none" for kind in ("Network", "NetworkFilter", "Secret", "StoragePool")},
    **{f"Network.{of}[].netmask": "another spelling, and no edit" for of in ("ips", "routes")},
    "Network.forward.addresses": "libvirt takes none that is not the virtual function of a network card",
    **dict.fromkeys(ELSEWHERE, "of another architecture, another hypervisor, or hardware that is not here"),
    **dict.fromkeys(
        ("Volume.encryption", *(f"Volume.encryption.{b.alias}" for b in bindings(Encryption))),
        "to make one takes seconds of work: tests/behaviours/test_encryption.py",
    ),
    "Volume.content.live": "how a copy is made, not what it is: tests/behaviours/test_templates.py",
    "Volume.content.checksums": "where `pin` looks, and nothing else: tests/cli/test_pin.py",
    **{
        f"VirtualMachine.{field}": "what a guest is told, by another resource: tests/behaviours/test_first_boot.py"
        for field in (
            "cloudInit",
            "ignitionText",
            *(f"ignition.{b.alias}" for b in bindings(Ignition)),
            *(f"combustion.{b.alias}" for b in bindings(Combustion)),
            "ignition",
            "combustion",
            *(f"cloudInit.{b.alias}" for b in bindings(CloudInit)),
            *(f"interfaces[].{field}" for field in ("addresses", "gateway", "nameservers")),
        )
    },
    **{
        f"VirtualMachine.{field}": "for a machine that is made: tests/behaviours/test_install.py"
        for field in (
            "install",
            *(f"install.{b.alias}" for b in bindings(Install)),
            *(f"install.kernel.{b.alias}" for b in bindings(InstallKernel)),
        )
    },
    **dict.fromkeys(
        (
            *(f"VirtualMachine.{field}" for field in ("template", "clone", "inherited", "domainOf")),
            *(f"Volume.{field}" for field in ("template", "templateDisk", "clone", "versionOf")),
            *(f"Volume.build{field}" for field in BUILD),
            "Volume.madeFor",
            *(f"Volume.versionOf.{field}" for field in ("template", "number", "disk", "recipe")),
        ),
        "of templates and clones: tests/behaviours/test_templates.py",
    ),
    "VirtualMachine.dependsOn": "in what order machines are made: tests/behaviours/test_first_boot.py",
    "VirtualMachine.disks[].create": "another resource, once it is loaded: tests/behaviours/test_inner_volumes.py",
    "VirtualMachine.interfaces[].securityGroups": "another resource: tests/behaviours/test_security_groups.py",
    **{
        f"HostInterface.bridge.ports[].{of}.{field}": "as that of an interface of its own"
        for of, model in (("bond", Bond), ("vlan", Vlan))
        for field, _ in declared(model)
    },
    "StoragePool.type": "a pool of another type is another pool",
    "StoragePool.source.adapter": "what a pool of LUNs is of; its fields are edited",
    "StoragePool.source.auth.secret": "who logs in has always one; its fields are edited",
    "StoragePool.source.auth.type": "there is one way to log in to a server",
    "StoragePool.target": "a pool has always one; its fields are edited",
}
# fields of pools that no host of the tests has a driver for: tests/behaviours/test_pool_types.py reads them again
NOT_HERE = {"IscsiDirectPool", "GlusterPool", "RbdPool", "ZfsPool", "OtherPool"}
# these have calls of their own, on running and on stopped objects alike
CALLS = {"state", "active", "autostart"}


def resource(document: dict[str, Any]) -> Resource:
    kind = BY_NAME[document["kind"]]
    metadata = Metadata.model_validate(document["metadata"])
    lifecycle = Lifecycle.model_validate({"deletion": "delete", "replace": "allow", **document.get("lifecycle", {})})
    spec = kind.adapter.validate_python(document["spec"])
    return Resource(ResourceId(kind.word, spec.id_name(metadata.name)), spec, metadata, lifecycle)


def converge(uri: str, project: str, documents: list[dict[str, Any]]) -> set[str]:
    """Apply, and see that nothing is left to do. The fields that were changed in running objects."""
    resources = [resource(d) for d in documents]
    with open_session(uri, project, resources) as session:
        plan = session.plan(ALL)
        assert [(str(c.id), c.blocked) for c in plan.blocked] == []
        boots = {c.id.name: boot(session.host, c) for c in plan.todo if stays(c)}
        result = session.apply(plan, ALL, lambda event: None)
        assert [(str(c.id), str(e)) for c, e in result.failed] == []
        assert result.skipped == []
        assert boots == {c.id.name: boot(session.host, c) for c in plan.todo if stays(c)}
    with open_session(uri, project, resources) as session:
        after = session.plan(ALL)
        assert [(str(c.id), c.action.name, c.blocked, c.shown) for c in after.todo] == []
        assert [(str(c.id), c.blocked, c.fields) for c in after.blocked] == []
    return {pattern(f.path) for c in plan.todo if stays(c) for f in c.live}


def stays(change: Change) -> bool:
    """Whether it runs, and is to go on running."""
    ends = change.action in (Action.DELETE, Action.REPLACE) or change.restarts
    return change.running and not ends and getattr(change.spec, "state", "") != "stopped"


def boot(host: Any, change: Change) -> int:
    """The number that libvirt gives a domain with every start."""
    return domains.find(host.connection, change.id.name).raw.ID() if change.id.kind == "domain" else 0


def pattern(path: tuple[str, ...]) -> str:
    return "".join("[]" if isinstance(part, Key) else f".{part}" for part in path).lstrip(".").removesuffix("[]")


def edited(documents: list[dict[str, Any]], edit: dict[str, Any]) -> list[dict[str, Any]]:
    """The last document is the one that is edited. Numbers in a path are items of a list, the next one too."""
    documents = copy.deepcopy(documents)
    for path, value in edit.items():
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        target = documents[-1]["spec"]
        for part in way:
            target = target[part]
        if value == "REMOVED":
            target.pop(last, None)
        elif last == len(target):
            target.append(value)
        else:
            target[last] = value
    return documents


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_edit_converges_and_so_does_taking_it_back(name: str, host: Sandbox, guest: Guest) -> None:
    case = CASES[name]
    if case.get("newer") and "KVMSTATE_TEST_TREE" not in os.environ:
        pytest.skip("of a newer libvirt than this machine's: KVMSTATE_TEST_TREE")
    project, documents, live = f"edits-{name}", case["documents"], set()
    uri = case.get("uri", host.uri)
    # libvirt's test driver has a host as long as somebody is connected to it
    with open_host(uri):
        converge(uri, project, documents)
        for edit in steps(case):
            live |= converge(uri, project, edited(documents, edit))
        converge(uri, project, [])
    assert set(case.get("live", [])) - live == set()


def steps(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The edits of a case; an empty one is the documents as they are."""
    edits, chained, before = case["edits"], case.get("chained"), set[str]()
    if chained:
        # those that follow each other in the file often change the same field
        half = (len(edits) + 1) // 2
        edits = [each for pair in zip_longest(edits[:half], edits[half:]) for each in pair if each]
    for edit in edits:
        touched = {path.partition(".")[0] for path in edit}
        if before and (touched & before or not chained):
            yield {}
        yield edit
        before = set() if case.get("oneWay") else touched
    if before:
        yield {}


def live_fields(kind: Kind) -> set[str]:
    """What changes in a running object, by calls that are not CALLS."""
    costs = {
        where: {effect} if isinstance(effect, Effect) else set(vars(effect).values())
        for section in kind.specs
        for where, effect in declared(section)
    }
    return {where for where, effects in costs.items() if Effect.LIVE in effects} - CALLS


def differing(old: Section, new: Section, at: str = "") -> Iterator[str]:
    """The fields that an edit changes. What is in a section or an item that comes or goes as a whole does not count."""
    for b in bindings(type(new)):
        before, after, where = getattr(old, b.name), getattr(new, b.name), f"{at}{b.alias}"
        if before == after:
            continue
        if b.sections and b.repeated:
            key = next((k.alias for s in b.sections for k in bindings(s) if k.name == b.key), None)
            befores, afters = (
                dict((b.item_key(i), i) if b.key else (n, i) for n, i in enumerate(items)) for items in (before, after)
            )
            if befores.keys() != afters.keys():
                yield from (where, f"{where}[].{key}")
            for each in (key for key in befores.keys() & afters.keys() if type(befores[key]) is type(afters[key])):
                yield from differing(befores[each], afters[each], f"{where}[].")
        elif b.sections and type(before) is type(after):
            yield from differing(before, after, f"{where}.")
        else:
            yield where


def said(section: Section) -> Iterator[tuple[str, str]]:
    """The fields that a section owns, and those below, each by the model that declares it."""
    cls: type[Section] = type(section)
    for b in bindings(cls):
        if b.name in section.model_fields_set:
            yield owner(cls, b.name)
            value = getattr(section, b.name)
            for item in value if b.repeated and b.sections else [value] if isinstance(value, Section) else []:
                yield from said(item)


def owner(spec: type[Any], name: str) -> tuple[str, str]:
    """The model that declares a field, and the field."""
    return next(model.__name__ for model in spec.__mro__ if name in get_annotations(model)), name


def owned(spec: type[Section], path: str) -> tuple[str, str]:
    """As `owner`, of a path such as `disks[].iotune.group`."""
    *way, last = path.replace("[]", "").split(".")
    sections = [spec]
    for alias in way:
        found = [b for section in sections for b in bindings(section) if b.alias == alias]
        sections = [section for b in found for section in b.sections]
    return next(owner(section, b.name) for section in sections for b in bindings(section) if b.alias == last)


@cache
def of_corpus(kind: Kind) -> frozenset[tuple[str, str]]:
    """The fields of the documents that are imported, planned and rebuilt on a real host (behaviours/test_import.py)."""
    texts = [path.read_text() for path in (ROOT / "tests" / "corpus" / kind.word).glob("*.xml")]
    return frozenset(field for text in texts for spec in kind.sections for field in said(parse(spec, document(text))))


def whose(spec: type[Any], field: str) -> tuple[str, str]:
    """A field, and the model that declares it: of a union, each member has its own."""
    names = {b.alias: b.name for b in bindings(spec)}
    name = names[re.split(r"[.\[]", field)[0]]
    return next(model.__name__ for model in spec.__mro__ if name in get_annotations(model)), field


def rebuilt(kind: Kind, field: str) -> bool:
    return owned(kind.sections[0], field) in of_corpus(kind)


def of_live_steps() -> Iterator[tuple[str, str]]:
    """What test_live.py edits."""
    table = yaml.safe_load((Path(__file__).parent / "live.yaml").read_text().replace("ROOT", "").replace("FOLDER", "/"))
    before = table["documents"]
    for step in table["steps"]:
        after = edited(before, step["edit"])
        old, new = (resource(documents[-1]).spec for documents in (before, after))
        yield from (whose(type(old), field) for field in differing(old, new))
        before = after


@pytest.mark.parametrize("kind", ON_HOST, ids=lambda kind: kind.name)
def test_every_field_of_a_kind_has_an_edit(kind: Kind) -> None:
    edits = {
        whose(type(before), field)
        for case in CASES.values()
        if case["documents"][-1]["kind"] == kind.name
        for edit in case["edits"]
        for before in [resource(case["documents"][-1]).spec]
        for field in differing(before, resource(edited(case["documents"], edit)[-1]).spec)
    } | {(owner, field) for owner, field in of_live_steps() if kind.name == "VirtualMachine"}
    specs = [spec for spec in kind.specs if spec.__name__ not in NOT_HERE]
    fields = {whose(spec, field) for spec in specs for field, _ in declared(spec)}  # type: ignore[type-var]
    names = {field.partition(".")[2] for field in FIXED if field.startswith(f"{kind.name}.")}
    fixed = {(model, field) for model, field in fields if field in names}
    made = {(model, field) for model, field in fields if kind.name == "VirtualMachine" and rebuilt(kind, field)}
    assert fields - edits - fixed - made == set()
    assert names - {field for _, field in fields} == set(), "no such fields"
    assert fixed & edits == set(), "they have an edit"


def test_every_live_field_of_networks_is_edited_while_it_runs() -> None:
    """Those of machines: test_live.py."""
    cases = [case for case in CASES.values() if case["documents"][-1]["kind"] == "Network"]
    assert {field for case in cases for field in case.get("live", [])} == live_fields(BY_NAME["Network"])


def test_live_fields_of_networks_have_a_section_of_libvirts_and_no_section_is_unused() -> None:
    found = {field: lists_of(field.replace("[]", "").split(".")) for field in live_fields(BY_NAME["Network"])}
    assert [field for field, sections in found.items() if len(sections) != 1] == []
    assert {sections[0] for sections in found.values()} == {*SECTIONS}
