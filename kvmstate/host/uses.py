"""Who uses what on a host: machines of every project and of none, off and running, and volumes that are layers.

Asked before something is deleted. Not seen is not the same as not there: what cannot be resolved over this connection
is `unknown`, and whoever asks must not go on then.
"""

from __future__ import annotations

import math
import posixpath
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from kvmstate.errors import ConnectionFailed, HostError, NotFound, Unseen
from kvmstate.host import domains, host_interfaces, managed_secrets, network_filters, networks, pools, volumes
from kvmstate.host.connection import LASTING
from kvmstate.host.faults import faults
from kvmstate.host.files import File, Files, below, normal, read
from kvmstate.host.named import Named, User, names_of
from kvmstate.host.objects import Domain, Network, NetworkFilter, Pool, Volume
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind.document import document

if TYPE_CHECKING:
    from kvmstate.host.connection import Host
    from kvmstate.host.own_ids import Own

# Where no image file is, and where looking may wait
_NO_FILES = ("/proc/", "/sys/")


class Layer(NamedTuple):
    """A volume that lies on another file, and where it is."""

    user: User
    path: str


class Uses:
    """Of one host. Thread-safe. A domain is read again when an event (see `hear`) or this run itself says that it has
    changed, and all are when the answer is too old (see LASTING): libvirt tells nothing of volumes, of snapshots, and
    of devices that are attached to what is defined."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._dirty: set[ResourceId] = set()
        self._domains: dict[str, Named] = {}
        self._naming_volumes: set[str] = set()
        self._by_path: dict[str, set[User]] = {}
        self._layers: dict[str, set[Layer]] = {}
        # each of them by its volume
        self._lies_at: dict[ResourceId, set[tuple[str, Layer]]] = {}
        self._networks: list[_Network] = []
        self._filters: dict[ResourceId, set[str]] = {}
        self._pools: dict[ResourceId, set[str]] = {}
        self._inodes: dict[str, list[str]] = {}
        self._known: dict[str, File] = {}
        self._same: dict[tuple[str, ...], list[str]] = {}
        self._strange: dict[str, str] = {}
        # of which nobody can tell what they use
        self._unread: dict[str, HostError] = {}
        self._files = Files(host.connection)
        # until when what was read counts
        self._holds = dict.fromkeys(("domains", "volumes", "filters", "pools"), -math.inf)
        # what this run has changed
        self._changed: set[ResourceId] = set()
        self._hears = False

    def hear(self) -> None:
        """Follow libvirt's events from here on. Its test driver has a host of its own for each connection, and none."""
        if self._hears or self._host.address.startswith("test"):
            return
        from kvmstate.host.events import Events, Heard

        def told(heard: Heard) -> None:
            if heard.id.kind == "domain":
                self._dirty.add(heard.id)

        def lost() -> None:
            self._hears = False

        with suppress(HostError):
            self._events = Events(self._host.address, told, lost)
            self._hears = True

    def close(self) -> None:
        if self._hears:
            self._hears = False
            self._events.close()

    def of_volume(self, id_: ResourceId, path: str) -> set[User]:
        """Who uses a volume. Raises HostError when that cannot be told."""
        with self._lock:
            self._look()
            self._refuse_unknown()
            return {user for user in self._seen(id_, path) if user.id != id_}

    def machines_with(self, id_: ResourceId, path: str) -> set[str]:
        """The machines that are seen to use a volume, or what lies on it, now or in a snapshot."""
        with self._lock:
            self._look()
            return {user.id.name for user in self._seen(id_, path) if user.id.kind == "domain"}

    def see(self, paths: Iterable[str]) -> None:
        """What `names` will be asked of, at once, as it is now."""
        with self._lock:
            self._inodes = {}
            self._see(paths)

    def names(self, path: str) -> list[str]:
        """What a file is known by, whatever it is called: two paths with a name in common are one file."""
        with self._lock:
            return self._names(path)

    def layers_over(self, path: str) -> set[Layer]:
        """The volumes that are seen to lie on a file, by any number of layers."""
        with self._lock:
            self._read("volumes", self._read_volumes)
            return {layer for key in self._names(path) for layer in self._layers.get(key, ())}

    def _seen(self, id_: ResourceId, path: str) -> set[User]:
        pool, _, name = id_.name.partition("/")
        found: set[User] = set()
        for key in self._names(path):
            found |= self._by_path.get(key, set()) | {layer.user for layer in self._layers.get(key, ())}
        for folder in PurePosixPath(normal(path)).parents:
            if len(folder.parts) > 1:
                for key in self._names(str(folder)):
                    found |= self._by_path.get(f"{key}/", set())
        naming = (self._domains[each] for each in self._naming_volumes)
        return found | {user for named in naming if (user := named.volumes.get((pool, name)))}

    def of_network(self, name: str) -> set[User]:
        """Machines with an interface on a network, on its bridge or on the way to it, or on another network that goes
        through it."""
        with self._lock:
            self._look()
            bridge = next((each.bridge for each in self._networks if each.name == name), "") or "-"
            bridges = {bridge, networks.way_to(name)}
            through = {name, *(each.name for each in self._networks if bridge in each.through)}
            return {
                User(ResourceId("domain", named.name))
                for named in self._domains.values()
                if through & named.networks or bridges & named.bridges
            }

    def of_interface(self, name: str) -> set[User]:
        """Machines and networks that an interface of the host is in the way of, and interfaces that are on it."""
        with self._lock:
            self._look()
            through = {each.name for each in self._networks if name in each.through}
            found = {
                User(ResourceId("domain", named.name))
                for named in self._domains.values()
                if name in named.bridges or through & named.networks
            }
            above = {
                User(ResourceId(each.type, each.name))
                for each in host_interfaces.all_interfaces(self._host)
                if each.name != name and name in below_interface(host_interfaces.xml(each))
            }
            return found | above | {User(ResourceId(Network.type, each)) for each in through}

    def of_filter(self, name: str) -> set[User]:
        """Machines with an interface that a network filter is for, and other filters that refer to it."""
        with self._lock:
            self._look()
            self._read("filters", self._read_filters)
            found = {user for named in self._domains.values() for user in named.filters.get(name, ())}
            return found | {User(id_) for id_, refers in self._filters.items() if name in refers}

    def of_secret(self, name: str) -> set[User]:
        """Machines and storage pools whose XML names a secret, by its UUID or its usage."""
        with self._lock:
            self._look()
            self._read("pools", self._read_pools)
            try:
                known = managed_secrets.names_of(managed_secrets.find(self._host.connection, name))
            except NotFound:
                return set()
            found = {u for named in self._domains.values() for each in known for u in named.secrets.get(each, ())}
            return found | {User(id_) for id_, uses in self._pools.items() if uses & known}

    def of_device(self, path: str, pool: str) -> set[User]:
        """Machines and storage pools, but for this `pool`, that name a device of the host."""
        with self._lock:
            self._look()
            keys = {*self._names(path)}
            found = {user for key in keys for user in self._by_path.get(key, ())}
            for each in pools.all_pools(self._host.connection):
                said = document(pools.xml(each)).iterfind("source/device") if each.name != pool else ()
                if any(keys & {*self._names(device.get("path", ""))} for device in said if device.get("path")):
                    found.add(User(ResourceId(each.type, each.name)))
            return found

    def of_pool(self, name: str) -> set[User]:
        """Machines with something that is in a pool."""
        with self._lock:
            self._look()
            found = {u for named in self._domains.values() for (pool, _), u in named.volumes.items() if pool == name}
            if folder := self._files.folder_of(name):
                for key in self._names(folder):
                    found |= self._by_path.get(f"in {key}", set())
            return found

    def forget(self, *ids: ResourceId) -> None:
        """This run has changed these, or deleted them."""
        with self._lock:
            self._dirty |= {*ids}
            self._changed |= {*ids}

    def look_again(self) -> None:
        """Nothing that was seen before counts any more."""
        with self._lock:
            self._holds = dict.fromkeys(self._holds, -math.inf)
            self._host.glimpses.clear()

    def _look(self) -> None:
        self._read("volumes", self._read_volumes)
        self._read("domains", self._read_all_domains)
        changed = set()
        while self._dirty:
            changed.add(self._dirty.pop())
        for id_ in changed:
            for at, layer in self._lies_at.pop(id_, ()):
                self._layers[at].discard(layer)
        if any(id_.kind == NetworkFilter.type for id_ in changed):
            self._holds["filters"] = -math.inf
        if any(id_.kind == Network.type for id_ in changed):
            self._read_networks()
        if any(id_.kind == Pool.type for id_ in changed):
            self._holds["pools"] = -math.inf
        if names := {id_.name for id_ in changed if id_.kind == "domain"}:
            self._read_domains(names)
        for name, error in self._unread.items():
            raise HostError(f"it cannot be told who uses it: virtual machine {name}: {error.message}", error.hint)

    def _read(self, what: str, read: Callable[[], float]) -> None:
        """Unless what was read still counts; `read` says for how long it only waited."""
        began = time.monotonic()
        if began >= self._holds[what]:
            glimpses = [each.until for each in self._host.glimpses.values() if each.until > began]
            waited = read()
            now = time.monotonic()
            # what others had read before is as old as that
            self._holds[what] = min([now + LASTING * (now - began - waited), *glimpses])

    def _read_all_domains(self) -> float:
        # what is said of volumes counts until they are read again
        for id_ in [*self._dirty]:
            if id_.kind == "domain":
                self._dirty.discard(id_)
                self._changed.add(id_)
        self._read_domains(None)
        self._read_files()
        return 0

    def _read_files(self) -> None:
        """What lies below the files that manifests and the record name: also when their machines have gone."""
        for path, (machine, format_) in self._host.named().items():
            folder = posixpath.dirname(normal(path))
            if folder in self._files.folders or path.startswith("/dev/"):
                # its pool tells of it
                continue
            named, user = Named(normal(path)), User(ResourceId("file", normal(path)), machine)
            self._domains[named.name] = named
            try:
                file = self._files.file(path)
            except Unseen as unseen:
                self._strange[named.name] = f"{user} is not to be seen: {unseen.message}"
                continue
            if file and file.backing and (format_ or file.format) != "raw":
                for lower, lower_format in below(file):
                    self._follow(lower, lower_format, user, named)

    def _read_domains(self, names: set[str] | None) -> None:
        """Of these names, or of all."""
        host = self._host
        for name in [*self._domains] if names is None else names & self._domains.keys():
            self._drop(name)
        self._unread = {} if names is None else {n: e for n, e in self._unread.items() if n not in names}
        listed = domains.all_domains(host.connection) if names is None else domains.named(host.connection, names)
        # of those that this run has deleted nothing is kept
        kept = domains.kept_states(host.connection, names) if listed else {}
        if names is None:
            self._read_networks()
        glimpse = self._glimpse("domain") if names is None else {}

        def read(domain: Domain) -> Named | None:
            try:
                return names_of(domain, kept, glimpse.get(domain.name))
            except (NotFound, ConnectionFailed):
                raise
            except HostError as error:
                self._unread[domain.name] = error
                return None

        found = [named for named in host.each(read, listed) if named]
        self._see(path for named in found for path in (*named.paths, *named.data, *named.folders))
        for named in found:
            self._domains[named.name] = named
            if named.volumes:
                self._naming_volumes.add(named.name)
            for path, users in named.paths.items():
                for user in users:
                    self._add(named, path, user)
                    if path in self._known and path not in named.data:
                        self._follow(path, None, user, named)
            for path, users in named.folders.items():
                for user in users:
                    self._add(named, path, user, "{}/")
            for path, (user, format_) in named.data.items():
                self._follow(path, format_, user, named)

    def _glimpse(self, of: str, type_: str = "domain") -> Mapping[str, tuple[str, str | None]]:
        """What was read just before, of what this run and others have not changed since."""
        glimpse = self._host.glimpses.get(of)
        if glimpse is None or time.monotonic() >= glimpse.until:
            return {}
        return {name: texts for name, texts in glimpse.texts.items() if ResourceId(type_, name) not in self._changed}

    def _read_networks(self) -> None:
        self._networks = self._host.each(_network, networks.all_networks(self._host.connection))

    def _read_filters(self) -> float:
        self._filters = dict(self._host.each(_filter, network_filters.all_filters(self._host.connection)))
        return 0

    def _read_pools(self) -> float:
        self._pools = dict(self._host.each(_pool, pools.all_pools(self._host.connection)))
        return 0

    def _drop(self, name: str) -> None:
        named = self._domains.pop(name)
        self._naming_volumes.discard(name)
        for path, user in named.used:
            self._by_path.get(path, set()).discard(user)
        self._strange.pop(name, None)

    def _see(self, paths: Iterable[str]) -> None:
        """Which files are at these paths: a look costs a way to the host, and each path has one."""
        new = {
            path for path in map(normal, paths) if path and path not in self._inodes and not path.startswith(_NO_FILES)
        }
        self._inodes |= {path: [*map(str, found)] for path, found in self._host.sight.inodes(new).items()}

    def _names(self, path: str) -> list[str]:
        """What a file is known by: its path, and the inodes that may be there, which no link or alias changes."""
        path = normal(path)
        self._see([path])
        return [_device(path), *self._inodes.get(path, ())]

    def _add(self, named: Named, path: str, user: User, shape: str = "{}") -> None:
        for key in self._names(path):
            named.used.add((shape.format(key), user))
            self._by_path.setdefault(shape.format(key), set()).add(user)

    def _read_volumes(self) -> float:
        """The volumes of active pools, and the files in the folders of those that are not active, or stop meanwhile."""
        host, waited, stopped = self._host, 0.0, set[str]()
        self._files = Files(host.connection)
        self._inodes = {}
        self._strange = {what: why for what, why in self._strange.items() if what in self._domains}
        listed = []
        glimpsed: dict[str, tuple[str, str | None]] = {}
        images: dict[str, dict[str, Own]] = {}
        for pool in pools.all_pools(host.connection):
            # one that has gone meanwhile
            with suppress(NotFound), faults():
                texts: Mapping[str, tuple[str, str | None]] = {}
                if pool.active and not (texts := self._glimpse(pool.name, "volume")):
                    began = time.monotonic()
                    if not pools.refreshed(pool):
                        # while it is being filled, what libvirt knew before has to do; one that failed is not active
                        waited += time.monotonic() - began
                glimpsed |= texts
                try:
                    listed += [(pool.name, volume) for volume in pools.listed(pool)]
                except Unseen:
                    stopped.add(pool.name)
                if (kind := self._files.type_of(pool.name)) and kind.own_layers and pool.active:
                    from kvmstate.host.own_ids import own_ids  # few hosts have such pools

                    images[pool.name] = own_ids(host, pool)

        def look(each: tuple[str, Volume]) -> File | None:
            known = glimpsed.get(f"{each[0]}/{each[1].name}")
            try:
                file = read(known[0] if known else volumes.xml(each[1]), pool=each[0])
            except Unseen:
                stopped.add(each[0])
                return None
            # libvirt does not tell
            own = images.get(each[0], {}).get(each[1].name)
            return replace(file, backing=own.below, backing_format="raw") if own and own.below else file

        self._known = {file.path: file for file in host.each(look, listed) if file and file.path}
        off = {folder: name for name in stopped if (folder := self._files.folder_of(name))}
        for folder, name in (self._files.inactive | off).items():
            try:
                self._known |= {file.path: replace(file, pool=name) for file in self._files.within(folder).values()}
            except Unseen as unseen:
                self._strange[f"pool {name}"] = f"it is not active, and {unseen.message}"
        self._same = defaultdict(list)
        self._layers, self._lies_at = {}, {}
        for path, file in self._known.items():
            self._same[file.times].append(path)
        layers = [file for file in self._known.values() if file.backing]
        self._see(path for file in layers for path, _ in below(file))
        for file in layers:
            user = User(ResourceId("volume", f"{file.pool}/{posixpath.basename(file.path)}"))
            for path, format_ in below(file):
                self._follow(path, format_, user, Layer(user, file.path))
        return waited

    def _follow(self, path: str, format_: str | None, user: User, of: Named | Layer) -> None:
        """A file and all that lies below it are used, by a machine or a layer."""
        passed: set[str] = set()
        todo: list[tuple[str, str | None]] = [(path, format_)]
        while todo:
            at, format_ = todo.pop()
            if at in passed:
                continue
            passed.add(at)
            if isinstance(of, Named):
                self._add(of, at, user)
                self._add(of, posixpath.dirname(at), user, "in {}")
            else:
                for key in self._names(at):
                    self._layers.setdefault(key, set()).add(of)
                    self._lies_at.setdefault(user.id, set()).add((key, of))
            try:
                file = self._known.get(at) or self._files.file(at)
            except Unseen as unseen:
                what = of.name if isinstance(of, Named) else f"pool {user.id.name.partition('/')[0]}"
                self._strange[what] = f"{user} uses {at}, and {unseen.message}"
                continue
            if file is None:
                continue
            if at not in self._known and file.times and not self._inodes.get(at):
                todo += [(same, format_) for same in self._same.get(file.times) or self._moving(file)]
            if (format_ or file.format) == "qcow2" and (data := self._host.sight.data_file(at)):
                todo.append((normal(posixpath.join(posixpath.dirname(at), data)), "raw"))
            if file.backing and (format_ or file.format) != "raw":
                todo += below(file)

    def _moving(self, file: File) -> Iterator[str]:
        """Volumes that may be this file, which is written to: changed before it was looked at, and since."""
        for path, before in self._known.items():
            if before.times[2:] == file.times[2:] and _time(before) <= _time(file):
                with suppress(HostError):
                    after = Files(self._host.connection).file(path)
                    if after and _time(before) < _time(after) and _time(file) <= _time(after):
                        yield path

    def _refuse_unknown(self) -> None:
        for what, why in self._strange.items():
            raise HostError(
                f"it cannot be told who uses it: {why if what in self._domains else f'{what}: {why}'}",
                "nothing that may be used is deleted: have libvirt see that place (start its pool), or undefine what "
                "names it",
            )


class _Network(NamedTuple):
    """A network, the bridge that it makes or uses, and all devices that its guests' traffic goes through."""

    name: str
    bridge: str
    through: set[str]


def _network(network: Network) -> _Network:
    root = document(networks.xml(network))
    bridge = next((each.get("name", "") for each in root.iterfind("bridge")), "")
    devices = {each.get("dev", "") for path in ("forward", "forward/interface") for each in root.iterfind(path)}
    return _Network(network.name, bridge, {bridge, *devices})


def below_interface(text: str) -> set[str]:
    """The interfaces that one of the host is made of."""
    return {each.get("name", "") for each in document(text).iterfind(".//interface")}


def _filter(each: NetworkFilter) -> tuple[ResourceId, set[str]]:
    """A network filter, and those that it refers to."""
    refers = document(network_filters.xml(each)).iterfind("filterref")
    return ResourceId(each.type, each.name), {ref.get("filter", "") for ref in refers}


def _pool(each: Pool) -> tuple[ResourceId, set[str]]:
    """A storage pool, and the secrets that it logs in with."""
    return ResourceId(each.type, each.name), {*managed_secrets.uses(document(pools.xml(each)))}


def _time(file: File) -> int:
    seconds, _, rest = (file.times[0] or "0").partition(".")
    return int(seconds) * 10**9 + int((rest or "0").ljust(9, "0"))


def _device(path: str) -> str:
    """A logical volume has two names, of which libvirt tells /dev/GROUP/VOLUME."""
    match = re.fullmatch(r"/dev/mapper/((?:[^-]|--)+)-((?:[^-]|--)+)", path)
    return "/dev/{}/{}".format(*(part.replace("--", "-") for part in match.groups())) if match else path
