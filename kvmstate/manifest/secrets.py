"""The values of the Secrets that manifests declare, read where the command line says, for who refers to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvmstate.errors import Problem
from kvmstate.kind.secrets import Password, Path, Value, passwords, target
from kvmstate.manifest.inherit import Heir
from kvmstate.manifest.manifests import Loaded
from kvmstate.manifest.providers import NotGiven, Providers
from kvmstate.model.resource import ResourceId

_CLEAR = "a secret stands here in clear: all who read the manifest, and its history in git, can read it"


def give(loaded: Sequence[Loaded], providers: Providers | None, problems: list[Problem]) -> Iterator[str]:
    """Fill in what the `providers` have, if there are any to ask; yields warnings. What is wrong is added to
    `problems`."""
    holders = {item.resource.id: (item, value) for item in loaded if (value := item.resource.spec.gives())}
    for item, value in holders.values():
        if value.data is not None:
            problems.append(item.problem("this is filled in, and not to be written", ("value", "data"), "say from"))
        elif value.clear is not None:
            yield f"{item.address(('value', 'clear'))}: {_CLEAR}; say from, and --secret"
            _know(item, value, value.clear.encode(), problems)
        elif providers is None:
            continue
        elif (name := value.from_ or "") not in providers:
            where = f"{item.address(('value', 'from'))}: nothing says where the value {name} is (--secret {name}=...)"
            yield f"{where}; where the host has one, it stays"
        else:
            try:
                _know(item, value, providers.read(name), problems)
            except NotGiven as why:
                problems.append(item.problem(f"the value {name} cannot be read: {why}", ("value", "from")))
    told: set[str] = set()
    for item in loaded:
        for at, password in passwords(item.resource.spec):
            teller, path = _written(item, at)
            if password.clear is not None:
                # of all machines that have it from one template there is one place
                if (place := teller.address((*path, "clear"))) not in told:
                    told.add(place)
                    yield f"{place}: {_CLEAR}; say secret, and declare a Secret"
            elif (problem := _given(teller, path, password, holders)) and problem not in problems:
                problems.append(problem)


def _written(item: Loaded, at: Path) -> tuple[Loaded, Path]:
    """Whose manifest says a field of a spec, and where: its own, or its template's."""
    if isinstance(item.document, Heir) and item.document.of_template(at):
        return item.document.template, ("defaults", *at)
    return item, at


def _know(item: Loaded, value: Value, found: bytes, problems: list[Problem]) -> None:
    try:
        value.know(found)
    except ValueError as error:
        at = "clear" if value.clear is not None else "from"
        problems.append(item.problem(f"the value cannot be used: {error}", ("value", at)))


def _given(
    item: Loaded, at: tuple[str | int, ...], password: Password, holders: Mapping[ResourceId, tuple[Loaded, Value]]
) -> Problem | None:
    """Give a password the value of its Secret; what is wrong with that."""
    held = holders.get(named) if (named := target(password)) else None
    if held is None:
        hint = "declare it, with its value: it is written into the machine itself"
        return item.problem(f"there is no {named} with a value in the manifests", (*at, "secret"), hint)
    if (known := held[1].known) is not None:
        try:
            password.clear = known.decode()
        except UnicodeDecodeError:
            return item.problem(f"the value of {named} is not a text", (*at, "secret"))
    return None
