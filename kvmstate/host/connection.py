"""A connection to one host, and what is asked of it as a whole."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import libvirt

from kvmstate.errors import ConnectionFailed, NotFound
from kvmstate.host.faults import faults, unreachable
from kvmstate.host.liveness import Watched
from kvmstate.host.lookup import HostLookup
from kvmstate.host.objects import Connection
from kvmstate.host.sight import Blind, Local, Sight, Ssh
from kvmstate.model.reference import VolumeRef
from kvmstate.model.uri import misspelt, redacted
from kvmstate.xmlbind import document

if TYPE_CHECKING:
    from kvmstate.host.seal import Sealing
    from kvmstate.host.uses import Uses

T = TypeVar("T")
R = TypeVar("R")
# libvirtd works on five requests of a client at a time (max_client_requests); more only wait there
READERS = 6
# What is asked again and again counts for so many times as long as the answer took: asking takes a small part of a
# run, however much there is to ask about, and on a small host nothing is ever old
LASTING = 10


@dataclass
class Glimpse:
    """What was read of many objects by what looked at all of them: their XML by their names, of domains what is defined
    and what is active. It counts `until` it is as old as what is asked again and again may be."""

    texts: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    until: float = -math.inf

    def end(self, texts: Mapping[str, tuple[str, str | None]]) -> None:
        self.texts = texts
        now = time.monotonic()
        self.until = now + LASTING * (now - self.began)


class Host:
    """An open connection. Safe to use from several threads, as libvirt's own connections are."""

    def __init__(self, connection: Any, address: str) -> None:
        """`address` is the connection URI, which may hold secrets; `uri` is what of it may be shown."""
        self.raw = connection
        self.connection = Connection(connection)
        self.address = address
        self.uri = redacted(address)
        # what manifests and the record name, and its formats; see HostLookup
        self.known: dict[VolumeRef | str, str | None] = {}
        # the XML of volumes, by POOL/NAME, that count as they were seen while a run does no more than look
        self.held: dict[str, str] = {}
        # whether something comes or leaves, so that who uses it will be asked: pools are looked at again for it
        self.asks_uses = False
        # of domains, and of the volumes of a pool that libvirt had just looked at again: by their type, or their pool
        self.glimpses: dict[str, Glimpse] = {}
        # by path: the machine that is to have this file by them, and its format; asked when it is needed
        self.named: Callable[[], dict[str, tuple[str, str | None]]] = dict
        # whether each volume is looked at also where a look takes a way, see `kvmstate.host.sight`
        self.closely = False
        # whether a run waits for what may take a person as long as they want, such as an installer
        self.patient = True

    @property
    def is_local(self) -> bool:
        """Whether the host's files are those of this machine."""
        return is_local(self.address)

    @cached_property
    def lookup(self) -> HostLookup:
        """What paths mean on this host, as of the first question; see `forget`."""
        return HostLookup(self.connection, self.known, self.held)

    @cached_property
    def uses(self) -> Uses:
        """Who uses what."""
        from kvmstate.host.uses import Uses  # few runs ask

        return Uses(self)

    @cached_property
    def sealing(self) -> Sealing:
        """Makes hashes of secrets."""
        from kvmstate.host.seal import Sealing  # few runs have secrets

        return Sealing(self)

    @cached_property
    def sight(self) -> Sight:
        """A look at the host's files past libvirt."""
        if self.is_local:
            return Local(self.address)
        return Ssh(self.address) if urlsplit(self.address).scheme.endswith("+ssh") else Blind()

    def each(self, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """`call` with every item, several at a time: most of a call's time is spent on the way. An item that has gone
        meanwhile (NotFound) is left out."""

        def run(share: list[T]) -> list[R]:
            answers = []
            for item in share:
                with suppress(NotFound), faults():
                    answers.append(call(item))
            return answers

        listed = list(items)
        # a share for each reader: handing over items one by one costs as much as the calls
        shares = [listed[start::READERS] for start in range(min(READERS, len(listed)))]
        if len(shares) < 2:
            return run(listed)
        with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
            return [answer for answers in pool.map(run, shares) for answer in answers]

    def reach_again(self) -> None:
        """Connect once more, as this connection was made, to see that it can be done. Raises ConnectionFailed."""
        with open_host(self.address):
            pass

    def know(self, known: dict[VolumeRef | str, str | None]) -> None:
        """Say which volumes manifests and the record name; see HostLookup."""
        if known != self.known:
            self.known = known
            self.forget()

    def forget(self) -> None:
        """Storage pools have changed: ask again."""
        self.__dict__.pop("lookup", None)

    @cached_property
    def library_version(self) -> tuple[int, int, int]:
        with faults():
            number = self.raw.getLibVersion()
        return number // 1_000_000, number // 1_000 % 1_000, number % 1_000

    @cached_property
    def capabilities(self) -> str:
        """The host's capabilities, as XML: https://libvirt.org/formatcaps.html"""
        with faults():
            return str(self.raw.getCapabilities())

    @cached_property
    def identity(self) -> str:
        """The same for every way to reach this host: its driver and its UUID; without a UUID, the URI."""
        with faults():
            found = urlsplit(str(self.raw.getURI()))
        uuid = document(self.capabilities).findtext("host/uuid")
        return f"{found.scheme.partition('+')[0]}:{found.path} {uuid}" if uuid else self.uri

    @cached_property
    def domain_capabilities(self) -> str:
        """What machines of the default kind may have, as XML: https://libvirt.org/formatdomaincaps.html"""
        with faults():
            return str(self.raw.getDomainCapabilities(None, None, None, None, 0))

    @cached_property
    def pool_types(self) -> frozenset[str]:
        """The types of storage pools that libvirt has drivers for here; none where it does not tell."""
        with faults():
            try:
                listed = document(str(self.raw.getStoragePoolCapabilities(0)))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                    raise
                return frozenset()
        return frozenset(str(node.get("type")) for node in listed.iterfind("pool") if node.get("supported") == "yes")


def once(ask: Callable[[Host], R]) -> Callable[[Host], R]:
    """Asks each host once, and remembers the answer no longer than the host: what remembers a host keeps its connection
    open."""
    answers: WeakKeyDictionary[Host, R] = WeakKeyDictionary()

    @wraps(ask)
    def asked(host: Host) -> R:
        if host not in answers:
            answers[host] = ask(host)
        return answers[host]

    return asked


def lasting(ask: Callable[[Host], R]) -> Callable[[Host], R]:
    """Asks each host, and gives the same answer for a while, see LASTING. While one thread asks again, the others go on
    with the answer that there is."""
    answers: WeakKeyDictionary[Host, tuple[float, R]] = WeakKeyDictionary()
    asking = threading.Lock()

    @wraps(ask)
    def asked(host: Host) -> R:
        known = answers.get(host)
        if known and time.monotonic() < known[0]:
            return known[1]
        if not asking.acquire(blocking=known is None) and known:
            return known[1]
        try:
            began = time.monotonic()
            if answers.get(host) is known:
                answer, now = ask(host), time.monotonic()
                answers[host] = now + LASTING * (now - began), answer
            return answers[host][1]
        finally:
            asking.release()

    return asked


def is_local(uri: str) -> bool:
    """Whether a connection URI (https://libvirt.org/uri.html) reaches a daemon by a socket of this machine."""
    parts = urlsplit(uri)
    return not parts.hostname and parts.scheme.partition("+")[2] in ("", "unix")


def default_uri() -> str:
    """libvirt's own rule: LIBVIRT_DEFAULT_URI, else the system daemon where it can be reached, else the session's."""
    if uri := os.environ.get("LIBVIRT_DEFAULT_URI"):
        return uri
    sockets = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
    return "qemu:///system" if any(os.access(path, os.W_OK) for path in sockets) else "qemu:///session"


@contextmanager
def open_host(uri: str | None) -> Iterator[Host]:
    """Connect, and disconnect at the end. Raises ConnectionFailed, after a bounded time also when nobody answers.

    When the host falls silent later, the calls that wait for it raise ConnectionFailed, see `liveness`.
    """
    # libvirt prints every error on stderr unless told otherwise
    libvirt.registerErrorHandler(lambda *_: None, None)
    uri = uri or default_uri()
    if wrong := misspelt(uri):
        raise ConnectionFailed(f"cannot connect to {redacted(uri)}: {wrong[0]}", wrong[1])
    try:
        watched = Watched(uri, is_local(uri))
    except libvirt.libvirtError as error:
        raise unreachable(uri, error) from error
    host = Host(watched.connection, uri)
    try:
        yield host
    finally:
        for each in ("uses", "sight"):
            if each in vars(host):
                vars(host)[each].close()
        watched.close()
