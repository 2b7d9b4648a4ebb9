"""Random histories of a project: edits, applies, applies that are killed, and others who work on the host between them
and inside of them (see `actors`).

After each apply no byte is lost that no manifest allowed to go, and what others own is as they left it. After those
that are let finish the next plan is empty, but for what is blocked by what somebody did; everything else that is
declared is there, and nothing more but what others own.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import actors
import libvirt
from flaky import Flaky, Killed, Meddled
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from ledger import Ledger, chain
from unasked import Configured, configured, unasked

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.host import Host, domains, networks, pools, uses
from kvmstate.kinds import BY_NAME
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options

PROJECT = "histories"
EVERYTHING = Options(prune=True, allow_empty=True, max_deletes=1000, lenient=True)
ONCE_MORE = replace(EVERYTHING, recreate=("volume/images/*",))
MIB = 1 << 20

NETWORKS, VOLUMES, MACHINES = ("n1", "n2"), ("a", "b", "c"), ("m1", "m2")
network_specs = st.fixed_dictionaries(
    {},
    optional={
        "active": st.booleans(),
        "autostart": st.booleans(),
        "mtu": st.sampled_from([1400, 1500]),
        "domain": st.sampled_from([{"name": "one.example"}, {"name": "two.example"}]),
    },
)
machine_specs = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["stopped", "stopped", "running", "ignore"]),
        "memory": st.sampled_from(["32MiB", "64MiB"]),
        "volumes": st.sets(st.sampled_from(VOLUMES)),
        "networks": st.sets(st.sampled_from(NETWORKS)),
    },
    optional={
        "cpus": st.integers(1, 3),
        "autostart": st.booleans(),
        "title": st.sampled_from(["one", "two"]),
        "description": st.text("ab<&'\" é", min_size=1, max_size=8).filter(lambda text: text == text.strip()),
        "guestAgent": st.booleans(),
    },
)
restarts = st.sampled_from(["whenOff", "now"])
volume_lifecycles = st.fixed_dictionaries(
    {
        "deletion": st.sampled_from(["delete", "delete", "delete", "orphan"]),
        "preventDestroy": st.sampled_from([False, False, False, True]),
        "replace": st.sampled_from(["never", "allow"]),
    }
)
# What may keep a declared change from being made, and who must have done something for it
EXPLAINED: dict[str, set[str] | None] = {
    # nobody: what manifests say, and no guest runs in these machines
    "the guest did not release the device": None,
    "cannot change without deleting it and creating it again": None,
    "it was left on the host, and .* would replace it": None,
    "preventDestroy (forbids|protects)": None,
    # libvirt's test driver has no such call, and the machine was to be off
    r"not supported by the connection driver: virDomain(Attach|Detach|Update)DeviceFlags": {"starts_a_machine"},
    # somebody has made the same edit twice, and between an apply and its look at what it did; or undone what it did
    "was applied, and the difference remained": {"redefines", "takes_a_device_out"},
    # of one that was kept when it was removed from the manifests
    "capacity cannot shrink": None,
    "in use by virtual machine m[12]$": None,
    "in use by .*, which (the manifests declare|stays)": None,
    "in use by virtual machine (theirs|s1)$": {
        "attaches_a_volume_to_another",
        "plugs_another_in",
        "applies_a_second_project",
    },
    "virtual machine theirs writes to volume images/": {"attaches_a_volume_to_another"},
    "in use by volume images2/layer-|volume images2/layer-.* is a layer over": {"applies_a_second_project"},
    # its QEMU has it open
    "virtual machine s1 runs on volume images2/layer-[ab], a layer over it": {"applies_a_second_project"},
    r"virtual machine m[12] runs on (volume images/|/.*/elsewhere/)[abc]\.backup\d+, a layer over it": {
        "takes_a_snapshot",
        "lays_an_overlay_without_metadata",
    },
    r"^snapshot (backup|s)\d+ of virtual machine m[12] keeps this volume as it is": {
        "takes_a_snapshot",
        "snapshot_command",
    },
    # a disk with a layer was taken out of its machine, which keeps the snapshot: its manifest names what lies below
    r"is what snapshot (backup|s)\d+ of virtual machine m[12] preserves": {"takes_a_device_out", "redefines"},
    r"volume images/[abc]\.backup.* is a layer over": {"takes_a_snapshot", "lays_an_overlay_without_metadata"},
    r"volume images/[abc]\.s\d.* is a layer over": {"snapshot_command"},
    r"in use by (volume images/[abc]\.backup|snapshot backup)": {
        "takes_a_snapshot",
        "lays_an_overlay_without_metadata",
    },
    r"in use by (volume images/[abc]\.s\d|snapshot s\d)": {"snapshot_command"},
    "of a backup program, and libvirt changes no snapshots then": {"makes_a_checkpoint"},
    "by now, in no storage pool, and it lies on volume images/": {"lays_an_overlay_without_metadata"},
    "by now, by somebody's hand: back on volume images/": {"moves_a_disk_to_another_file", "snapshot_command"},
    "needs volume/images/[abc], which is blocked: ": {
        "makes_one_of_the_same_name",
        "unmounts_or_mounts",
        "deletes_a_volume",
    },
    "(lies|lie) on it, and would be damaged by another content than it had": {
        "applies_a_second_project",
        "takes_a_snapshot",
        "lays_an_overlay_without_metadata",
        "snapshot_command",
    },
    "another one of this name|it exists on the host, and this project does not own it": {
        "makes_one_of_the_same_name",
        "unmounts_or_mounts",
    },
}


STEPS = ["declare_network", "declare_volume", "declare_volume", "declare_machine", "declare_machine", "take_out"]
STEPS += ["take_out", "touch_machine", "touch_network", "touch_network", "touch_storage"]
STEPS += [*["somebody_acts"] * 3, "apply_among_others", "apply_among_others", *["asks_first"] * 3, "finish"]


EDITS = ["take_a_volume_out", "take_a_volume_out", "take_out", "declare_machine"]


class Histories(RuleBasedStateMachine):
    uri: str
    # of the pools, under the same path inside of the host and outside
    root: Path
    # libvirt's test driver resizes no volumes, plugs no devices, and a running network loses there what is defined
    is_real: bool
    own_machines, own_volumes, own_networks = MACHINES, VOLUMES, NETWORKS
    lenient = staticmethod(lambda: EVERYTHING)

    def __init__(self) -> None:
        super().__init__()
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection = libvirt.open(self.uri)
        self.networks: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.machines: dict[str, tuple[dict[str, Any], str]] = {}
        # what volumes were declared as since the last apply that was let finish
        self.declared: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        self.layered: set[str] = set()
        self.done: list[str] = []
        self.overlays = 0
        self.strangers: set[int] = set()
        # networks that a killed run has left
        self.ways: set[str] = set()
        # addresses of what a plan that waits is about
        self.at_stake: set[str] = set()
        if self.is_real:
            for name in ("images", "second", "elsewhere"):
                self.folder(name).mkdir(parents=True)
            self.ledger = Ledger(self.root)
        self.patches = ExitStack()
        # one read after the other, so that a history is the same when it is played again; and no answer is ever old
        self.patches.enter_context(patch("kvmstate.host.connection.READERS", 1))
        self.patches.enter_context(patch.object(uses, "LASTING", 0))
        # there is no guest that could release a device
        self.patches.enter_context(patch.object(domains._wait, "__defaults__", (0.2,)))

    def teardown(self) -> None:
        self.patches.close()
        self.connection.close()

    def folder(self, name: str) -> Path:
        return self.root / name

    def away(self) -> Path:
        return self.folder("images.away")

    # What somebody else has on this host
    def others(self) -> None:
        self.connection.defineXML(self.domain_xml("theirs"))
        self.connection.networkDefineXML("<network><name>theirs</name></network>")
        self.look_around()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """With something to do something to."""
        self.others()
        for declare in (self.declare_network, self.declare_volume, self.declare_volume, self.declare_machine):
            declare(data)
        self.finish()
        if data.draw(st.booleans()):
            actors.act(self, actors.applies_a_second_project, data.draw(st.integers(0, 199)))

    # one rule: with several Hypothesis would leave out some of them in most histories
    @rule(what=st.sampled_from(STEPS), data=st.data())
    def step(self, what: str, data: st.DataObject) -> None:
        getattr(self, what)(data)

    def look_around(self) -> None:
        """What is there by now is what is to stay."""
        self.theirs, self.used = self.foreign(), self.used_by_others()
        if self.is_real:
            self.ledger.write_new(self.busy())
            self.views = self.seen_by_machines()
            self.led_to = self.leads_to()
            for path in {*self.ledger.layers()} - self.led_to:
                # whoever led to it has gone by somebody's hand
                if path.parent == self.folder("elsewhere"):
                    self.ledger.release(path)

    def foreign(self) -> dict[str, Any]:
        """What is not the project's, with what it looks like; of machines also which run of theirs it is."""
        found: dict[str, Any] = {}
        for address, text in self.snapshot().items():
            kind, _, name = address.partition("/")
            mine = {"domain": MACHINES, "network": NETWORKS, "pool": ("images",), "volume": ()}[kind]
            if name not in mine and not address.startswith("volume/images/"):
                found[address] = re.sub(r"<(allocation|available|capacity)\b.*?</\1>", "", text)
        for domain in self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            if domain.name() not in MACHINES:
                found[f"run of {domain.name()}"] = domain.ID()
        return found

    def used_by_others(self) -> set[tuple[str, str]]:
        """What is there of all that machines of others name."""
        there = {address.partition("/")[2] for address in self.snapshot() if address.startswith("network/")}
        for pool in self.connection.listAllStoragePools():
            there |= {volume.path() for volume in pool.listAllVolumes()} if pool.isActive() else set()
        found = set()
        for domain in self.connection.listAllDomains():
            if domain.name() not in MACHINES:
                for source in actors.config(domain).xpath("devices/*/source"):
                    used = source.get("network") or source.get("file") or ""
                    if used in there or (self.is_real and used.startswith("/") and self.ledger.is_there(Path(used))):
                        found.add((domain.name(), used))
        return found

    def leads_to(self) -> set[Path]:
        """The layers that some machine, or a snapshot, leads to."""
        texts = [self.busy()]
        for domain in self.connection.listAllDomains():
            texts.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            texts += [snapshot.getXMLDesc() for snapshot in domain.listAllSnapshots()]
        named = [path for path in self.ledger.layers() if f"'{path}'" in " ".join(texts)]
        return {below for path in named for below in chain(path)}

    def busy(self) -> str:
        """The XML of all that runs: it names the files that QEMUs have open."""
        running = self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return "".join(domain.XMLDesc(0) for domain in running)

    def is_open(self, path: str) -> bool:
        return path in self.busy()

    def release(self, path: str, why: str) -> None:
        """Somebody who may deletes what is there."""
        self.done.append(why)
        if self.is_real:
            self.ledger.release_with_layers(Path(path))

    def seen_by_machines(self) -> dict[tuple[str, str], set[int]]:
        """By own machine and volume: the marks that the machine can read through its disk, whatever lies on it."""
        found = {}
        for domain in self.connection.listAllDomains():
            if domain.name() in MACHINES:
                for source in actors.config(domain).iterfind("devices/disk/source[@file]"):
                    passed = list(chain(Path(source.get("file"))))
                    for base in passed:
                        if base.parent == self.folder("images") and base.name in VOLUMES:
                            found[domain.name(), base.name] = self.ledger.shown(passed[0])
        return found

    def second_project(self, number: int) -> tuple[Resource, ...]:
        """Volumes of the same names in a pool of its own, a layer over the first project's, and a machine."""
        if self.is_real and number % 3 == 0:
            self.layered |= {VOLUMES[number % 2]}
        found = [
            self.resource("StoragePool", "images2", {"type": "dir", "target": {"path": str(self.folder("second"))}})
        ]
        for name in ("a", "b"):
            found.append(self.resource("Volume", name, {"pool": "images2", "format": "raw", "capacity": MIB}))
        for name in sorted(self.layered):
            layer = {"pool": "images2", "format": "qcow2", "capacity": 4 * MIB, "backing": f"images/{name}"}
            found.append(self.resource("Volume", f"layer-{name}", layer))
        spec: dict[str, Any] = {"state": "running" if number % 4 == 1 else "stopped", "memory": "32MiB"}
        if self.is_real:
            spec["disks"] = [{"name": "root", "volume": "images2/a"}]
            spec["disks"] += [{"name": f"layer-{v}", "volume": f"images2/layer-{v}"} for v in sorted(self.layered)]
            spec["interfaces"] = [{"network": f"n{number % 2 + 1}"}]
        return (*found, self.resource("VirtualMachine", "s1", spec))

    def domain_xml(self, name: str) -> str:
        kind = "test" if self.uri.startswith("test") else "qemu"
        return (
            f"<domain type='{kind}'><name>{name}</name><memory>32768</memory><os><type>hvm</type></os>"
            "<description>not kvmstate's</description></domain>"
        )

    def snapshot(self) -> dict[str, str]:
        """Everything on the host, by kind and name."""
        connection = self.connection
        found = {f"domain/{d.name()}": d.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for d in connection.listAllDomains()}
        # what a run plugs in by way of, or was looking with when it was killed, is not there for long
        shown = [each for each in connection.listAllNetworks() if not each.name().startswith(networks.WAY)]
        found |= {f"network/{n.name()}": n.XMLDesc(0) for n in shown}
        for pool in (each for each in connection.listAllStoragePools() if not each.name().startswith(pools.LOOK)):
            found[f"pool/{pool.name()}"] = pool.XMLDesc(0)
            if pool.isActive():
                found |= {f"volume/{pool.name()}/{v.name()}": "" for v in pool.listAllVolumes()}
        return found

    # Edits of the manifests
    def declare_network(self, data: st.DataObject) -> None:
        name, spec = data.draw(st.sampled_from(NETWORKS)), data.draw(network_specs)
        number = NETWORKS.index(name)
        if not self.is_real:
            spec = {key: value for key, value in spec.items() if key == "autostart"}
        self.networks[name] = {
            **spec,
            "bridge": {"name": f"kvmh{number}"},
            "ips": [{"address": f"10.99.{number}.1/24"}],
        }

    def declare_volume(self, data: st.DataObject) -> None:
        """Never smaller than before: that is refused, and another test's matter."""
        name, mib = data.draw(st.sampled_from(VOLUMES)), data.draw(st.integers(1, 3))
        format_, lifecycle = data.draw(st.sampled_from(["raw", "raw", "qcow2"])), data.draw(volume_lifecycles)
        before = self.volumes.get(name, ({}, {}))[0].get("capacity", 0)
        spec = {
            "pool": "images",
            "format": format_ if self.is_real else "raw",
            "capacity": max(mib * MIB, before) if self.is_real else MIB,
        }
        self.volumes[name] = (spec, lifecycle)
        self.declared.setdefault(name, []).append(self.volumes[name])

    def declare_machine(self, data: st.DataObject) -> None:
        name, spec = data.draw(st.sampled_from(MACHINES)), data.draw(machine_specs)
        restart = data.draw(restarts)
        if not self.is_real and spec["state"] != "stopped":
            spec = {**spec, "state": "running", "volumes": set(), "networks": set()}
        before, _ = self.machines.get(name, ({"state": "stopped"}, ""))
        if "stopped" not in (before["state"], spec["state"]):
            # no guest runs that could release a device, for which libvirt waits long
            spec = {**spec, "volumes": before["volumes"], "networks": before["networks"]}
        # two that write to one image are refused, and another test's matter
        others = {v for other, (said, _) in self.machines.items() if other != name for v in said["volumes"]}
        self.machines[name] = ({**spec, "volumes": spec["volumes"] - others}, restart)

    def used_by_running(self) -> set[str]:
        return {
            used
            for spec, _ in self.machines.values()
            if spec["state"] != "stopped"
            for used in (*spec["volumes"], *spec["networks"])
        }

    def take_out(self, data: st.DataObject) -> None:
        self.take_one_out(data, data.draw(st.sampled_from(["networks", "volumes", "machines"])))

    def take_a_volume_out(self, data: st.DataObject) -> None:
        self.take_one_out(data, "volumes")

    def take_one_out(self, data: st.DataObject, what: str) -> None:
        declared = getattr(self, what)
        if free := sorted(declared.keys() - self.used_by_running()):
            del declared[data.draw(st.sampled_from(free))]

    def resources(self) -> list[Resource]:
        found = [
            self.resource("StoragePool", "images", {"type": "dir", "target": {"path": str(self.folder("images"))}})
        ]
        used = self.used_by_running()
        for name, spec in self.networks.items():
            # a machine starts on networks that run
            found.append(self.resource("Network", name, {**spec, **({"active": True} if name in used else {})}))
        found += [self.resource("Volume", name, spec, "now", more) for name, (spec, more) in self.volumes.items()]
        for name, (spec, restart) in sorted(self.machines.items()):
            own = {key: value for key, value in spec.items() if key not in ("volumes", "networks")}
            disks = [{"name": v, "volume": f"images/{v}"} for v in sorted(spec["volumes"] & self.volumes.keys())]
            interfaces = [{"network": n} for n in sorted(spec["networks"] & self.networks.keys())]
            found.append(
                self.resource("VirtualMachine", name, {**own, "disks": disks, "interfaces": interfaces}, restart)
            )
        return found

    def resource(
        self,
        kind_name: str,
        name: str,
        spec: dict[str, Any],
        restart: str = "now",
        more: dict[str, Any] | None = None,
    ) -> Resource:
        kind = BY_NAME[kind_name]
        validated = kind.adapter.validate_python(spec)
        stop = {"timeout": 1, "onTimeout": "destroy"}
        lifecycle = Lifecycle.model_validate({"deletion": "delete", "restart": restart, "stop": stop, **(more or {})})
        return Resource(ResourceId(kind.word, validated.id_name(name)), validated, Metadata(name=name), lifecycle)

    # What people do by hand
    def touch_machine(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(["undefine", "stop", "start", "memory", "autostart", "description"]))
        domain = self.pick(data, [d for d in self.connection.listAllDomains() if d.name() in MACHINES])
        if domain is None:
            return
        with suppress(libvirt.libvirtError):
            if what == "undefine":
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
            elif what == "stop":
                domain.destroy()
            elif what == "start":
                domain.create()
                self.done.append("starts_a_machine")
            elif what == "memory":
                domain.setMemoryFlags(16 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            elif what == "autostart":
                domain.setAutostart(not domain.autostart())
            else:
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "by hand", None, None, 2)

    def touch_network(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(["undefine", "stop", "stop", "start", "autostart"]))
        found = [n for n in self.connection.listAllNetworks() if n.name() in NETWORKS]
        # what a running machine would miss is rare
        missed = [n for n in found if what == "stop" and f"network='{n.name()}'" in self.busy()]
        network = self.pick(data, missed or found)
        if network is None:
            return
        with suppress(libvirt.libvirtError):
            if what == "undefine":
                network.undefine()
            elif what == "stop":
                network.destroy()
            elif what == "start":
                network.create()
            else:
                network.setAutostart(not network.autostart())

    def touch_storage(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(["delete volume", "stop pool"]))
        pools = [p for p in self.connection.listAllStoragePools() if p.name() == "images" and p.isActive()]
        if not pools:
            return
        if what == "stop pool":
            pools[0].destroy()
            return
        volume = self.pick(data, pools[0].listAllVolumes())
        if volume is not None and not self.is_open(volume.path()):
            self.release(volume.path(), "deletes_a_volume")
            volume.delete()

    @staticmethod
    def pick(data: st.DataObject, found: list[Any]) -> Any:
        names = sorted(item.name() for item in found)
        if not names:
            return None
        name = data.draw(st.sampled_from(names))
        return next(item for item in found if item.name() == name)

    # Others
    @property
    def actors(self) -> tuple[actors.Actor, ...]:
        return (*actors.EVERYWHERE, *(actors.WITH_FILES if self.is_real else ()))

    def somebody_acts(self, data: st.DataObject) -> None:
        every = (*self.actors, *(actors.BETWEEN * 3 if self.is_real else ()))
        actors.act(self, data.draw(st.sampled_from(every)), data.draw(st.integers(0, 199)))

    # Applies
    def apply_among_others(self, data: st.DataObject) -> None:
        moments = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=4, unique=True))
        number, before = data.draw(st.integers(0, 199)), data.draw(st.booleans())
        killed = data.draw(st.none() | st.integers(1, 25))
        chosen = {at: data.draw(st.sampled_from(self.actors)) for at in moments}
        acts = {at: lambda actor=actor, at=at: actors.act(self, actor, number + at) for at, actor in chosen.items()}
        self.look_around()
        try:
            self.apply(Meddled(acts, killed, before), EVERYTHING)
        except Killed:
            self.ways |= self.ways_now()
        self.nothing_is_lost()

    def asks_first(self, data: st.DataObject) -> None:
        """Something is taken out or edited, and others act while the plan waits for an answer."""
        getattr(self, data.draw(st.sampled_from(EDITS)))(data)
        acting = data.draw(st.lists(st.sampled_from((*actors.IN_THE_WAY * 3, *self.actors)), min_size=1, max_size=2))
        number = data.draw(st.integers(0, 199))
        own = [ResourceId("domain", name) for name in MACHINES] + [ResourceId("network", name) for name in NETWORKS]
        own += [ResourceId("volume", f"images/{name}") for name in VOLUMES]
        self.look_around()

        def waits(session: Session, plan: Plan) -> None:
            self.at_stake = {str(change.id) for change in plan.todo}
            for actor in acting:
                actors.act(self, actor, number)
            self.at_stake = set()
            seen.append((session.host, configured(session.host, own)))

        seen: list[tuple[Host, Configured]] = []
        plan, _ = self.apply(Meddled({}), EVERYTHING, waits)
        self.nothing_is_lost()
        if not any(change.unknown for change in plan.changes):
            # what is seen of it on the way is planned, and done, then
            host, before = seen[0]
            assert unasked(plan, before, configured(host, own)) == []

    def finish(self, _: object = None) -> None:
        """Nobody acts any more: it comes to an end."""
        if self.is_real:
            actors.mount(self)
        restarted: set[object] = set()
        for _ in range(4):
            self.look_around()
            plan, result = self.apply(Meddled({}), ONCE_MORE)
            self.nothing_is_lost()
            held = {c.id.name for c in (*plan.blocked, *(c for c, _ in (*result.failed, *result.skipped)))}
            assert {*self.left_on_the_way()} <= held, "a machine is cut off"
            for change in plan.todo:
                if change.restarts:
                    why = (change.id, *((f.where, repr(f.new)) for f in (*change.fields, *change.active_fields)))
                    assert why not in restarted, "restarted twice for one difference"
                    restarted.add(why)
            if not plan.todo:
                break
        self.declared = {name: [last] for name, last in self.volumes.items()}
        # of what is gone and is not made again, this says why
        again = {change.id: change.blocked for change in plan.blocked}
        plan, result = self.apply(fuse := Meddled({}), EVERYTHING)
        self.everybody_is_plugged_in()
        failed = {change.id: f"{error}" for change, error in result.failed}
        why_not = {change.id: again.get(change.id, change.blocked) for change in plan.blocked} | failed
        assert {str(id_): text for id_, text in why_not.items() if not self.explains(text)} == {}
        waits = {change.id for change, _ in result.skipped}
        left = [
            (c.action.name, str(c.id), [f.where for f in c.shown])
            for c in plan.todo
            if c.id not in failed.keys() | waits
        ]
        assert left == []
        if not failed:
            # a look into a folder that no pool has leaves nothing behind
            assert " ".join(fuse.changes).replace("storagePoolCreateXML destroy", "").split() == []
        now, kept = self.snapshot(), {str(id_) for id_ in why_not.keys() | waits}
        missing = {str(r.id) for r in self.resources()} - now.keys() - kept
        assert missing == set()
        more = now.keys() - self.theirs.keys() - {str(r.id) for r in self.resources()} - kept
        assert {address for address in more if not self.somebodys(address)} == set()

    def explains(self, text: str) -> bool:
        return any(re.search(pattern, text) and (by is None or {*self.done} & by) for pattern, by in EXPLAINED.items())

    def somebodys(self, address: str) -> bool:
        """A file in the project's pool that it did not make or release: an overlay, an orphan, somebody's volume."""
        name = address.rpartition("/")[2]
        return address.startswith("volume/images/") and ("." in name or name not in self.volumes)

    def ways_now(self) -> set[str]:
        return {each.name() for each in self.connection.listAllNetworks() if each.name().startswith(networks.WAY)}

    def nothing_is_lost(self) -> None:
        assert self.ways_now() <= self.ways
        assert self.foreign() == self.theirs
        assert self.used - self.used_by_others() == set()
        if not self.is_real:
            return
        assert self.ledger.lost() == []
        let_go = {path for path in self.led_to - self.leads_to() if self.ledger.is_needed(path)}
        elsewhere = self.folder("elsewhere")
        # what lies on volumes of somebody's: a manifest may take out a disk whose files are all elsewhere, and stay
        over = {path for path in let_go if any(below.parent != elsewhere for below in chain(path))}
        assert {path for path in over if path.parent == elsewhere} == set()
        assert self.ledger.cut_off() == []
        views = self.seen_by_machines()
        resources = {str(r.id): r.spec for r in self.resources()}
        for (machine, volume), marks in self.views.items():
            spec = resources.get(f"domain/{machine}")
            if (machine, volume) in views and spec and volume in {disk.name for disk in spec.disks}:
                gone = marks - self.ledger.released - views[machine, volume]
                assert not gone, (machine, volume, [str(self.ledger.held[mark]) for mark in gone])

    def everybody_is_plugged_in(self) -> None:
        if not self.is_real:
            return
        for domain in self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            for nic in actors.document(domain.XMLDesc(0)).iterfind("devices/interface[@type='network']"):
                tap, bridge = nic.find("target").get("dev"), nic.find("source").get("bridge")
                if self.connection.networkLookupByName(nic.find("source").get("network")).isActive():
                    assert self.master(tap) == bridge, f"{domain.name()} is cut off"

    def left_on_the_way(self) -> list[str]:
        """The networks that run, and that running machines are on the way to and not in."""
        sources = re.findall(r"<source [^>]*bridge='([^']*)'", self.busy())
        found = [n.name() for n in self.connection.listAllNetworks() if n.isActive()]
        return [name for name in found if networks.way_to(name) in sources]

    def master(self, tap: str) -> str:
        raise NotImplementedError

    def apply(
        self, fuse: Meddled, options: Options, waits: Callable[[Session, Plan], None] = lambda session, plan: None
    ) -> Any:
        """The plan, and what became of it."""
        host = Host(Flaky(self.connection, fuse), self.uri)
        try:
            with fuse.between_looks_and_deeds():
                session = Session(host, open_store(host, PROJECT), tuple(self.resources()))
                plan = session.plan(options)
                self.allow_what_manifests_allow()
                waits(session, plan)
                return plan, session.apply(plan, options, lambda event: None, parallelism=1)
        finally:
            host.uses.close()

    def allow_what_manifests_allow(self) -> None:
        for name, versions in self.declared.items() if self.is_real else ():
            path = self.folder("images") / name
            if not path.exists() or path.stat().st_ino in self.strangers:
                continue
            gone = name not in self.volumes
            for _, lifecycle in versions:
                may_go = lifecycle["deletion"] == "delete" and not lifecycle["preventDestroy"]
                may_be_replaced = lifecycle["replace"] == "allow" and len({v[0]["format"] for v in versions}) > 1
                if (gone and may_go) or (not gone and may_be_replaced):
                    self.ledger.release(path)


def unlocked() -> None:
    """Until 3.12 Python computes one cached property of a class at a time, whoever's it is: what acts within that could
    compute none in threads of its own."""
    for each in gc.get_objects():
        if isinstance(each, cached_property) and each.func.__module__.startswith("kvmstate"):
            each.lock = nullcontext()  # type: ignore[attr-defined]


def run_histories(of: type[Histories], count: int, steps: int) -> None:
    """`count` random histories of up to `steps` steps. A failing one is shown as it was: shrinking takes too long."""
    unlocked()
    chosen = settings(
        max_examples=count,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.reuse, Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(of, settings=chosen)
