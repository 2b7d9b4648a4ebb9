"""Taking out of a document what fields say: the reverse of writing them."""

from __future__ import annotations

import pytest
from toys import Inner, Part, Toy

from kvmstate.xmlbind import document, meaning, owning, parse, patch, strip, to_text


@pytest.mark.parametrize(
    ("xml", "left"),
    [
        ("<d><text>t</text></d>", "<d/>"),
        ("<d><text kept='1'>t</text></d>", "<d><text kept='1'/></d>"),
        ("<d><number value='1'/><mac address='aa' type='x'/></d>", "<d><mac type='x'/></d>"),
        ("<d><flag/><unknown><flag/></unknown></d>", "<d><unknown><flag/></unknown></d>"),
        ("<d><amount unit='KiB'>4</amount></d>", "<d/>"),
        # a spelling that writing does not bring back stays
        ("<d><amount unit='MiB'>1</amount></d>", "<d><amount unit='MiB'>1</amount></d>"),
        ("<d><inner level='1'><note>n</note></inner></d>", "<d/>"),
        ("<d><inner level='1'><kept/></inner></d>", "<d><inner><kept/></inner></d>"),
        ("<d><common level='1' other='2'/></d>", "<d><common other='2'/></d>"),
        # what is made with an element comes back with it
        ("<d><made model='best' level='1'><backend>x</backend></made></d>", "<d/>"),
        ("<d><made model='other' level='1'/></d>", "<d><made model='other'/></d>"),
        # items leave their key behind, where anything else of them is left
        ("<d><parts><part made='new' name='a'><speed>1</speed></part></parts></d>", "<d/>"),
        (
            "<d><parts><part made='new' name='a'><x/><speed>1</speed></part><part made='new' name='b'/></parts></d>",
            "<d><parts><part made='new' name='a'><x/></part><part made='new' name='b'/></parts></d>",
        ),
        ("<d><word>a</word><word>b</word></d>", "<d/>"),
        ("<d><steps><step does='a'/></steps></d>", "<d/>"),
        ("<d><shape type='round'><radius>1</radius></shape></d>", "<d/>"),
        ("<d><z/><text>t</text><y/></d>", "<d><z/><y/></d>"),
    ],
)
def test_what_is_left(xml: str, left: str) -> None:
    node = document(xml)
    spec = parse(Toy, node)
    rest = strip(node, spec)
    assert to_text(rest) == to_text(document(left))
    assert meaning(patch(rest, spec)) == meaning(node)
    assert to_text(node) == to_text(document(xml)), "the document itself stays as it was"


def test_owning_is_of_some_fields_alone() -> None:
    spec = Toy(text="t", number=1, inner=Inner(level=1), parts=[Part(name="a")])
    assert owning(spec, "text").model_fields_set == {"text"}
    assert owning(spec, "text", number=2).model_fields_set == {"text", "number"}
    assert to_text(patch(document("<d/>"), owning(spec, "text", number=2))) == to_text(
        document("<d><text>t</text><number value='2'/></d>")
    )
