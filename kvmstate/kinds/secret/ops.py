"""Secrets on a host: observe, and make changes real. kvmstate's own are never among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, managed_secrets, secrets
from kvmstate.host.objects import Secret
from kvmstate.kind import Context, Ops
from kvmstate.kind.compose import written
from kvmstate.kind.secrets import Value, usage_of
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.secret.spec import SecretSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text
from kvmstate.xmlbind.path import parse_path

BASE = "<secret/>"
# What of a spec is in its XML, and what is set by a call of its own
_CALLED = ("value", "lifecycle")
_SAY = "let its manifest say the value (value: {from: NAME}), and apply that first"
_ROTATE = (
    "use another Secret for new volumes; where the images themselves have the new passphrase by now, write "
    "lifecycle: {replace: allow}"
)
_UNNAMABLE = re.compile(r"[^A-Za-z0-9_.-]|^[.-]")


def names(host: Host) -> set[str]:
    """Those that are for something: a secret without a usage has no name."""
    return {each.name for each in managed_secrets.all_secrets(host.connection) if each.name != each.uuid}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(each: Secret) -> Observed:
        id_ = ResourceId(each.type, each.name)
        return Observed(
            id_, each.uuid, managed_secrets.xml(each), None, {}, _read, ask=lambda seen: _with_value(seen, each)
        )

    return {seen.id.name: seen for seen in host.each(look, managed_secrets.named(host.connection, names))}


def _with_value(seen: Observed, secret: Secret) -> Observed:
    """With the value, which a manifest may ask for: not of a private one, and not of one that has none."""
    try:
        value = managed_secrets.value(secret)
    except ConnectionFailed:
        raise
    except HostError:
        # who may not see it, or a secret that has just gone
        return seen
    return seen if value is None else replace(seen, calls={"value": Value.of(value)}, has_secrets=True)


def _read(seen: Observed) -> tuple[SecretSpec, None]:
    return parse(SecretSpec, document(seen.xml)).model_copy(update=seen.calls), None


def portable(observed: Observed, host: Host) -> tuple[SecretSpec, etree._Element]:
    """A value is named, and never written down."""
    spec: SecretSpec = observed.config
    if "usage" not in spec.model_fields_set:
        raise HostError("it is for no usage, and has no name", "refer to it by its UUID: it needs no manifest")
    value = Value.model_construct({"from_"}, from_=_UNNAMABLE.sub("-", observed.id.name))
    return spec.model_copy(update={"value": value}), document(observed.xml)


def complete(resource: Resource, observed: Observed | None, project: str) -> SecretSpec:
    spec: SecretSpec = resource.spec
    return spec


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    if why := _locks_out(change):
        return replace(change, blocked=why, hint=_ROTATE)
    if change.action not in (Action.CREATE, Action.REPLACE) or change.spec is None or change.blocked:
        return change
    if change.id.name.startswith(secrets.OWN):
        why = f"{secrets.OWN}... are kvmstate's own secrets"
        return replace(change, blocked=why, hint="give it another name")
    if not secrets.supported(host.connection):
        return replace(change, blocked="this host's libvirt has no secrets", hint="install its driver for them there")
    value: Value | None = change.spec.value
    if value and value.known is None:
        hint = f"say where it is: --secret {value.from_}=file:PATH, or others (see `kvmstate plan --help`)"
        return replace(change, blocked=f"nothing says where its value {value.from_} is", hint=hint)
    if value is None and change.action is Action.REPLACE:
        return replace(change, blocked="its value would be lost: only the host has it", hint=_SAY)
    return change


def _locks_out(change: Change) -> str:
    """Why a value is not changed: an encrypted image keeps the passphrase that it was made with."""
    known = [field for field in change.fields if field.path[0] == "value" and field.old is not None]
    if change.action is not Action.UPDATE or change.blocked or change.spec.usage != "volume" or not known:
        return ""
    return "" if change.lifecycle.replace == "allow" else "volumes keep the passphrase that they were made with"


def removed(changes: Sequence[Change], host: Host, said: Mapping[ResourceId, Sequence[SecretSpec]]) -> Iterator[Change]:
    """A value that nobody else has is deleted only where the manifest said so: what it opens would be lost with it."""
    for change in changes:
        known = [spec.value for spec in said[change.id] if spec.value and spec.value.data]
        if known or change.lifecycle.deletion == "delete":
            yield change
        else:
            why = "only the host has its value, and what it opens would be lost with it"
            yield replace(change, blocked=why, hint=f"{_SAY}, or deletion: delete or orphan in its lifecycle")


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, host = change.id.name, change.spec, at.host

    def find() -> Secret:
        return managed_secrets.find(host.connection, name)

    def define() -> None:
        if change.observed is not None and change.action is Action.UPDATE:
            before = managed_secrets.configuration(find())
            managed_secrets.redefine(before, _text(change, document(before.text), host))
        else:
            managed_secrets.define(host.connection, _text(change, document(spec.remainder or BASE), host))

    todo = []
    if change.destroys:
        permit = at.gate.removal(change)
        todo.append(simple("undefine", lambda: managed_secrets.undefine(find(), permit)))
        if change.action is Action.DELETE:
            return todo
    fresh = change.action is not Action.UPDATE
    if fresh or any(field.path[0] not in _CALLED for field in change.fields):
        todo.append(simple("define" if fresh else "define, with the value that it has", define))
    known = spec.value.known if spec.value else None
    if known is not None and (fresh or any(field.path[0] == "value" for field in change.fields)):
        todo.append(simple("set its value", lambda: managed_secrets.set_value(find(), known)))
    return todo


def _text(change: Change, node: etree._Element, host: Host) -> str:
    made = written(change, node, host.lookup)
    parse_path(change.spec.name_path).set(made, usage_of(change.id.name))
    return to_text(made)


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    users=lambda host, change: host.uses.of_secret(change.id.name),
    checked=checked,
    removed=removed,
    begun=lambda host, spec: document(spec.remainder or BASE),
)
