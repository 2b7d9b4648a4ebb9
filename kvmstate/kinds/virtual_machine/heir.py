"""A machine that was made from a template has what the template said then: no edit of a template changes a machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kvmstate.kinds.virtual_machine.settings.cloud_init import DISK
from kvmstate.xmlbind import is_sealed

# What a machine says of its template, rather than what it has from it
SAID = ("template", "clone", "inherited")
# What stands for the field `cloudInit` in what was applied
TOLD = {f"disks[{DISK}]": "cloudInit", "controllers": "cloudInit"}


def kept(wanted: Mapping[str, Any], applied: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """What is `wanted` of a machine, with what was `applied` where that was, and is, its template's to say. `own` are
    the fields that its manifest names."""
    keeping = _Keeping({*wanted.get("inherited", ())}, {*applied.get("inherited", ())}, own)
    made = keeping.fields({k: v for k, v in wanted.items() if k not in SAID}, applied)
    said = {name: wanted[name] for name in SAID if name in wanted}
    return {**made, **said, "inherited": sorted(keeping.has)}


class _Keeping:
    def __init__(self, now: set[str], before: set[str], own: Collection[str]) -> None:
        self._now, self._before, self._own = now, before, own
        # what it has from its template in the end
        self.has = before - {*own}

    def fields(self, wanted: Mapping[str, Any], applied: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for name in [*wanted, *(name for name in applied if name not in wanted and name not in SAID)]:
            lists = wanted.get(name), applied.get(name)
            apart = name in self._own or any(
                path.startswith(f"{name}[") and of in self._own for path, of in TOLD.items()
            )
            if apart and all(map(_named, lists)):
                made[name] = self._items(name, *lists)
            elif (value := self._one(name, *lists)) is not None:
                made[name] = value
        return made

    def _items(self, name: str, wanted: Any, applied: Any) -> list[Any]:
        new, old = ({item["name"]: item for item in items} for items in (wanted, applied))
        found = (self._one(f"{name}[{key}]", new.get(key), old.get(key)) for key in {**new, **old})
        return [item for item in found if item is not None]

    def _one(self, path: str, wanted: Any, applied: Any) -> Any:
        said = TOLD.get(path, path)
        if path in self._own or said in self._own:
            return wanted
        now, before = ({said, said.partition("[")[0]} & each for each in (self._now, self._before))
        if now and not before and applied is None:
            # the template has come to say it since
            return None
        self.has |= now
        if before and applied is not None and not (wanted is not None and is_sealed(applied)):
            return applied
        return wanted


def _named(items: object) -> bool:
    return (
        isinstance(items, list) and bool(items) and all(isinstance(each, dict) and each.get("name") for each in items)
    )
