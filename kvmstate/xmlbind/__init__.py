"""Pydantic models bound to libvirt XML: one declaration per field, many uses.

A field of a `Section` says side by side what a manifest may write (its type), where that lives in XML (`Xml`)
and what a change costs (`Effect`). `parse` reads it, `patch` edits a document in place so that XML nobody
modelled survives, `diff` compares only what the manifest owns.
"""

from kvmstate.xmlbind.binding import Binding, Keyed, Section, Sensitive, Xml, bindings
from kvmstate.xmlbind.codecs import Element, Scalar
from kvmstate.xmlbind.defaults import with_defaults
from kvmstate.xmlbind.diff import diff, leaving, with_cleared
from kvmstate.xmlbind.document import canonical, document, parse, patch, to_text, without
from kvmstate.xmlbind.fields import xml, xml_list
from kvmstate.xmlbind.overrides import Overrides, apply_overrides, holds_secret, is_secret, read_overrides
from kvmstate.xmlbind.remainder import Difference, NeededRemainder, Remainder, contained, differences, meaning, merge
from kvmstate.xmlbind.strip import owning, strip
from kvmstate.xmlbind.withdraw import withdraw

__all__ = [
    "Binding",
    "Difference",
    "Element",
    "Keyed",
    "NeededRemainder",
    "Overrides",
    "Remainder",
    "Scalar",
    "Section",
    "Sensitive",
    "Xml",
    "apply_overrides",
    "bindings",
    "canonical",
    "contained",
    "diff",
    "differences",
    "document",
    "holds_secret",
    "is_secret",
    "leaving",
    "meaning",
    "merge",
    "owning",
    "parse",
    "patch",
    "read_overrides",
    "strip",
    "to_text",
    "with_cleared",
    "with_defaults",
    "withdraw",
    "without",
    "xml",
    "xml_list",
]
