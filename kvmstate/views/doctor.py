"""What is the matter with a host: one line a finding, and a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvmstate.doctor import Finding, Severity
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Output
from kvmstate.views.formats.markdown import table

FORMAT_VERSION = "1.0"
_SIGNS = {Severity.OK: "✓", Severity.NOTE: "i", Severity.WARNING: "!", Severity.ERROR: "✗"}
COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}
_WIDTH = 14


def line(finding: Finding) -> str:
    said = f"{_SIGNS[finding.severity]} {finding.check:<{_WIDTH}}  {harmless(finding.what)}"
    # the fix of what is well is of no use
    wanted = finding.hint and finding.severity is not Severity.OK
    return said + (f"\n  {'':<{_WIDTH}}  hint: {harmless(finding.hint)}" if wanted else "")


def summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    words = [
        f"{counts[severity]} {severity.value}{'s' if counts[severity] > 1 else ''}"
        for severity in (Severity.ERROR, Severity.WARNING)
        if counts[severity]
    ]
    return f"Doctor: {', '.join(words)}." if words else "Doctor: nothing is wrong."


def output(findings: Sequence[Finding]) -> Output:
    """What is printed in the end: as text the count alone, as the lines have been printed one by one."""
    rows = [(f.severity.value, f.check, f.what, f.hint if f.severity is not Severity.OK else "") for f in findings]
    return Output(
        lambda: as_json(findings),
        lambda: "\n" + summary(findings),
        lambda: f"### {summary(findings)}\n\n" + table(("severity", "check", "what", "hint"), rows),
    )


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "findings": [
            {"check": f.check, "severity": f.severity.value, "message": f.what, "hint": f.hint} for f in findings
        ],
    }
