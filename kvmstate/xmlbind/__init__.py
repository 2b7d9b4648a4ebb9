"""Pydantic models bound to libvirt XML: one declaration per field, many uses.

A field of a `Section` says side by side what a manifest may write (its type), where that lives in XML (`Xml`)
and what a change costs (`Effect`). `parse` reads it, `patch` edits a document in place so that XML nobody
modelled survives, `diff` compares only what the manifest owns.
"""

from kvmstate.xmlbind.binding import Binding, Keyed, OneOrMore, Section, Sensitive, Xml, bindings, owned
from kvmstate.xmlbind.codecs import Element, Scalar
from kvmstate.xmlbind.defaults import with_defaults
from kvmstate.xmlbind.diff import diff, leaving, said_below, with_cleared
from kvmstate.xmlbind.document import canonical, document, parse, patch, to_text, without
from kvmstate.xmlbind.fields import xml, xml_list
from kvmstate.xmlbind.later import Later, later
from kvmstate.xmlbind.overrides import Overrides, apply_overrides, holds_secret, is_secret, read_overrides
from kvmstate.xmlbind.remainder import Difference, NeededRemainder, Remainder, contained, differences, meaning, merge
from kvmstate.xmlbind.sealed import (
    Hide,
    Seal,
    asks,
    by_hash,
    hides,
    holds_secrets,
    is_sealed,
    opened,
    sealed,
    sealed_fields,
    sealed_xml,
    secrets,
    secrets_in_xml,
)
from kvmstate.xmlbind.strip import owning, strip
from kvmstate.xmlbind.withdraw import withdraw

__all__ = [
    "Binding",
    "Difference",
    "Element",
    "Hide",
    "Keyed",
    "Later",
    "NeededRemainder",
    "OneOrMore",
    "Overrides",
    "Remainder",
    "Scalar",
    "Seal",
    "Section",
    "Sensitive",
    "Xml",
    "apply_overrides",
    "asks",
    "bindings",
    "by_hash",
    "canonical",
    "contained",
    "diff",
    "differences",
    "document",
    "hides",
    "holds_secret",
    "holds_secrets",
    "is_sealed",
    "is_secret",
    "later",
    "leaving",
    "meaning",
    "merge",
    "opened",
    "owned",
    "owning",
    "parse",
    "patch",
    "read_overrides",
    "said_below",
    "sealed",
    "sealed_fields",
    "sealed_xml",
    "secrets",
    "secrets_in_xml",
    "strip",
    "to_text",
    "with_cleared",
    "with_defaults",
    "withdraw",
    "without",
    "xml",
    "xml_list",
]
