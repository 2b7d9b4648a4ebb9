"""Random histories of a project: edits, applies, applies that are killed, and people who change the host by hand.

After each apply that is let finish the next plan is empty, everything declared is there and nothing else but what
others own, and that is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import libvirt
from flaky import Flaky, Fuse, Killed
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.host import Host
from kvmstate.kinds import BY_NAME
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options

PROJECT = "histories"
EVERYTHING = Options(prune=True, allow_empty=True, max_deletes=1000)
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


class Histories(RuleBasedStateMachine):
    uri: str
    pool_path: str
    # libvirt's test driver resizes no volumes, plugs no devices, and a running network loses there what is defined
    is_real: bool

    def __init__(self) -> None:
        super().__init__()
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection = libvirt.open(self.uri)
        self.networks: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.machines: dict[str, tuple[dict[str, Any], str]] = {}

    def teardown(self) -> None:
        self.connection.close()

    # What somebody else has on this host
    @initialize()
    def others(self) -> None:
        self.connection.defineXML(self.domain_xml("theirs"))
        self.connection.networkDefineXML("<network><name>theirs</name></network>")
        self.theirs = self.snapshot()

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
        found |= {f"network/{n.name()}": n.XMLDesc(0) for n in connection.listAllNetworks()}
        for pool in connection.listAllStoragePools():
            found[f"pool/{pool.name()}"] = pool.XMLDesc(0)
            if pool.isActive():
                found |= {f"volume/{pool.name()}/{v.name()}": "" for v in pool.listAllVolumes()}
        return found

    # Edits of the manifests
    @rule(name=st.sampled_from(NETWORKS), spec=network_specs)
    def declare_network(self, name: str, spec: dict[str, Any]) -> None:
        number = NETWORKS.index(name)
        if not self.is_real:
            spec = {key: value for key, value in spec.items() if key == "autostart"}
        self.networks[name] = {
            **spec,
            "bridge": {"name": f"kvmh{number}"},
            "ips": [{"address": f"10.99.{number}.1/24"}],
        }

    @rule(name=st.sampled_from(VOLUMES), mib=st.integers(1, 3))
    def declare_volume(self, name: str, mib: int) -> None:
        """Never smaller than before: that is refused, and another test's matter."""
        before = self.volumes.get(name, {}).get("capacity", 0)
        self.volumes[name] = {
            "pool": "images",
            "format": "raw",
            "capacity": max(mib * MIB, before) if self.is_real else MIB,
        }

    @rule(name=st.sampled_from(MACHINES), spec=machine_specs, restart=restarts)
    def declare_machine(self, name: str, spec: dict[str, Any], restart: str) -> None:
        if not self.is_real and spec["state"] != "stopped":
            spec = {**spec, "state": "running", "volumes": set(), "networks": set()}
        self.machines[name] = (spec, restart)

    @rule(kind=st.sampled_from(["networks", "volumes", "machines"]), data=st.data())
    def take_out(self, kind: str, data: st.DataObject) -> None:
        declared = getattr(self, kind)
        if declared:
            del declared[data.draw(st.sampled_from(sorted(declared)))]

    def resources(self) -> list[Resource]:
        found = [self.resource("StoragePool", "images", {"type": "dir", "target": {"path": self.pool_path}})]
        found += [self.resource("Network", name, spec) for name, spec in self.networks.items()]
        found += [self.resource("Volume", name, spec) for name, spec in self.volumes.items()]
        for name, (spec, restart) in self.machines.items():
            own = {key: value for key, value in spec.items() if key not in ("volumes", "networks")}
            disks = [{"name": v, "volume": f"images/{v}"} for v in sorted(spec["volumes"] & self.volumes.keys())]
            interfaces = [{"network": n} for n in sorted(spec["networks"] & self.networks.keys())]
            if spec["state"] == "running":
                # a machine starts on networks that run
                interfaces = [i for i in interfaces if self.networks[i["network"]].get("active", True)]
            found.append(
                self.resource("VirtualMachine", name, {**own, "disks": disks, "interfaces": interfaces}, restart)
            )
        return found

    def resource(self, kind_name: str, name: str, spec: dict[str, Any], restart: str = "now") -> Resource:
        kind = BY_NAME[kind_name]
        validated = kind.adapter.validate_python(spec)
        stop = {"timeout": 1, "onTimeout": "destroy"}
        lifecycle = Lifecycle.model_validate({"deletion": "delete", "restart": restart, "stop": stop})
        return Resource(ResourceId(kind.word, validated.id_name(name)), validated, Metadata(name=name), lifecycle)

    # What people do by hand
    @rule(data=st.data(), what=st.sampled_from(["undefine", "stop", "start", "memory", "autostart", "description"]))
    def touch_machine(self, data: st.DataObject, what: str) -> None:
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
            elif what == "memory":
                domain.setMemoryFlags(16 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            elif what == "autostart":
                domain.setAutostart(not domain.autostart())
            else:
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "by hand", None, None, 2)

    @rule(data=st.data(), what=st.sampled_from(["undefine", "stop", "start", "autostart"]))
    def touch_network(self, data: st.DataObject, what: str) -> None:
        network = self.pick(data, [n for n in self.connection.listAllNetworks() if n.name() in NETWORKS])
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

    @rule(data=st.data(), what=st.sampled_from(["delete volume", "stop pool"]))
    def touch_storage(self, data: st.DataObject, what: str) -> None:
        pools = [p for p in self.connection.listAllStoragePools() if p.name() == "images" and p.isActive()]
        if not pools:
            return
        if what == "stop pool":
            pools[0].destroy()
        elif (volume := self.pick(data, pools[0].listAllVolumes())) is not None:
            volume.delete()

    @staticmethod
    def pick(data: st.DataObject, found: list[Any]) -> Any:
        names = sorted(item.name() for item in found)
        if not names:
            return None
        name = data.draw(st.sampled_from(names))
        return next(item for item in found if item.name() == name)

    # Applies
    @rule(at=st.integers(1, 25), before=st.booleans())
    def apply_and_be_killed(self, at: int, before: bool) -> None:
        fuse = Fuse(at, before)
        with suppress(Killed):
            session = self.session(Flaky(self.connection, fuse))
            self.apply(session)
        self.finish()

    @rule()
    def finish(self) -> None:
        session = self.session(self.connection)
        result = self.apply(session)
        assert [(str(c.id), str(error)) for c, error in result.failed] == []
        assert [(str(c.id), reason) for c, reason in result.skipped] == []
        plan = self.session(self.connection).plan(EVERYTHING)
        left = [(c.action.name, str(c.id), c.blocked, [f.where for f in c.shown]) for c in (*plan.todo, *plan.blocked)]
        assert left == []
        now = self.snapshot()
        assert {address: now.get(address) for address in self.theirs} == self.theirs
        assert now.keys() - self.theirs.keys() == {str(r.id) for r in self.resources()}

    def session(self, connection: Any) -> Session:
        host = Host(connection, self.uri)
        return Session(host, open_store(host, PROJECT), tuple(self.resources()))

    def apply(self, session: Session) -> Any:
        plan = session.plan(EVERYTHING)
        emit: Callable[[Any], None] = lambda event: None  # noqa: E731
        return session.apply(plan, EVERYTHING, emit)


def run_histories(of: type[Histories], count: int, steps: int) -> None:
    """`count` random histories of up to `steps` steps. A failing one is shown as it was: shrinking takes too long."""
    chosen = settings(
        max_examples=count,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.reuse, Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(of, settings=chosen)
