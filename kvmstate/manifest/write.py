"""Resources to manifests: YAML that people like to read, and that `load` reads back as the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from kvmstate.kinds import BY_WORD
from kvmstate.manifest.scalars import resolve
from kvmstate.model.quantity import PLAIN_BYTES, Bytes
from kvmstate.model.resource import API_VERSION, Resource

WIDTH = 110
# What fits on a line beside a key
_FLOW = 90


def manifest(resources: Iterable[Resource]) -> str:
    """One document a resource. Raises nothing: what is validated can be written."""
    return "---\n".join(document(as_data(resource)) for resource in resources)


def project_file(name: str, id_: str, connection: str | None) -> str:
    """The text of a kvmstate.yaml."""
    return document(
        {"project": name, **({"id": id_} if id_ else {}), **({"connection": connection} if connection else {})}
    )


def as_data(resource: Resource) -> dict[str, object]:
    """A manifest, before it is written."""
    spec = resource.spec.model_dump(exclude_unset=True)
    if remainder := spec.pop("remainder", None):
        spec["remainder"] = remainder.rstrip("\n") + "\n"
    lifecycle = resource.lifecycle.model_dump(exclude_unset=True)
    return {
        "apiVersion": API_VERSION,
        "kind": BY_WORD[resource.id.kind].name,
        "metadata": resource.metadata.model_dump(exclude_unset=True),
        **({"lifecycle": lifecycle} if lifecycle else {}),
        "spec": spec,
    }


# a tenth of the time, where PyYAML was built with it
_BASE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    try:
        plain = resolve(text) == text
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style if plain else '"')


def _size(dumper: yaml.SafeDumper, value: Bytes) -> yaml.Node:
    text = str(value).replace(" ", "").replace("bytes", "B")
    plain = text.endswith("B") and text[:-1].isdigit() and not 0 < value < PLAIN_BYTES
    return dumper.represent_data(int(value)) if plain else _string(dumper, text)


def _mapping(dumper: yaml.SafeDumper, value: dict[str, object]) -> yaml.Node:
    """On one line where it is short and flat."""
    flat = all(not isinstance(v, dict | list) and "\n" not in str(v) for v in value.values())
    short = sum(len(f"{k}: {v}, ") for k, v in value.items()) < _FLOW
    top = "apiVersion" in value or "project" in value
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=flat and short and not top)


def _list(dumper: yaml.SafeDumper, value: list[object]) -> yaml.Node:
    flat = all(not isinstance(v, dict | list) and "\n" not in str(v) for v in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat and len(str(value)) < _FLOW)


_Dumper.add_representer(str, _string)
_Dumper.add_representer(Bytes, _size)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def document(value: object) -> str:
    """Any value as a YAML document."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH))


class _Block(_Dumper):
    pass


_Block.add_representer(dict, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value.items()))


def entry(key: str, value: object, width: int = WIDTH) -> str:
    """A value under its key, on lines of their own."""
    flow = False if not isinstance(value, list | dict) else None
    return str(
        yaml.dump(
            {key: value}, Dumper=_Block, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow
        )
    )
