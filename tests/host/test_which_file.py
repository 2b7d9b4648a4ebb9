"""Which file a volume is, where several may be meant by its path."""

from __future__ import annotations

from typing import Any

import pytest

from kvmstate.host.identity import UNKNOWN, identity
from kvmstate.host.sight import Blind, Inode
from kvmstate.model.pool_types import TYPES

OWN, OTHERS = 7, 8


def told(changed: int) -> str:
    """A volume's XML, as libvirt has seen the file when it was changed last at this time."""
    return f"<volume><target><path>/a</path><timestamps><ctime>0.{changed:09d}</ctime></timestamps></target></volume>"


class Written(Blind):
    """By turns what a look sees: when each file was changed last."""

    def __init__(self, *looks: dict[int, int]) -> None:
        self.looks = iter(looks)

    def inode(self, path: str) -> list[Inode]:
        return [Inode(number, 1, changed, 0) for number, changed in next(self.looks).items()]


@pytest.mark.parametrize(
    ("first", "looks", "again", "found"),
    [
        (5, [{OWN: 5}], [], OWN),
        (5, [{OTHERS: 4, OWN: 5}], [], OWN),
        # it is written to, alone
        (3, [{OWN: 5}, {OWN: 7}], [6], OWN),
        (3, [{OTHERS: 1, OWN: 5}, {OTHERS: 1, OWN: 7}], [6], OWN),
        # both are: the next look tells, or none
        (3, [{OTHERS: 4, OWN: 5}, {OTHERS: 9, OWN: 5}, {OTHERS: 9, OWN: 5}], [5], OWN),
        (3, [{OTHERS: 4, OWN: 4}, {OTHERS: 6, OWN: 6}] * 3, [5, 5, 5], None),
        (3, [{}], [], None),
    ],
)
def test_a_file_is_told_from_another_that_is_written_to_meanwhile(
    first: int, looks: list[dict[int, int]], again: list[int], found: int | None
) -> None:
    texts = iter(map(told, again))
    sight: Any = Written(*looks)
    expected = f"inode:{found}:1" if found else UNKNOWN
    assert identity(sight, TYPES["dir"], "/a", told(first), lambda: next(texts)) == expected
