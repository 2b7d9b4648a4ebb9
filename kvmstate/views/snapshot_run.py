"""What `kvmstate snapshot run` did, or would do; schemas/snapshot-run.schema.json describes the JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from kvmstate.kind.policy import Outcome, Policy
from kvmstate.kinds import POLICIES
from kvmstate.model.printable import harmless
from kvmstate.views.diagnostics import diagnostics
from kvmstate.views.formats import Output
from kvmstate.views.formats.markdown import framed

FORMAT_VERSION = "1.0"


def lines(outcome: Outcome, dry: bool) -> Iterator[str]:
    """What there is to say about one policy on one machine; a dry run also says what is kept, and why."""
    told = list(_told(outcome, dry))
    if told:
        yield harmless(f"{outcome.target.id}: {outcome.policy.id}")
        yield from (harmless(f"  {line}") for line in told)


def _told(outcome: Outcome, dry: bool) -> Iterator[str]:
    will = "will be " if dry else ""
    if outcome.created:
        yield f"+ {outcome.created}   {will}created"
    if outcome.skipped:
        yield f"  none is taken: {outcome.skipped}"
    for verdict in outcome.verdicts:
        name = verdict.made.name
        if name in outcome.deleted:
            yield f"- {name}   {will}deleted: {verdict.why}"
        elif name in outcome.held:
            yield f"  {name}   {', '.join(verdict.reasons)}"
        elif dry and verdict.kept:
            yield f"  {name}   kept: {', '.join(verdict.reasons)}"
    for error in outcome.errors:
        yield f"! {error.message}"
        if error.hint:
            yield f"    hint: {error.hint}"


def summary(policies: Sequence[Policy], outcomes: Sequence[Outcome], now: datetime, dry: bool) -> Iterator[str]:
    for policy in policies:
        id_, next_time = policy.resource.id, policy.next_due(now)
        if next_time is None:
            yield f"{id_}: suspended"
            continue
        count = sum(outcome.policy is policy.resource for outcome in outcomes)
        yield f"{id_}: {count} machine{'' if count == 1 else 's'}, next at {next_time:%Y-%m-%d %H:%M %Z}"
    if not policies:
        yield f"There is no {' or '.join(kind.name for kind in POLICIES)} in these manifests."
        return
    created, deleted = sum(bool(o.created) for o in outcomes), sum(len(o.deleted) for o in outcomes)
    failed, held = sum(bool(o.errors) for o in outcomes), sum(len(o.held) for o in outcomes)
    back = f", {held} held back" if held else ""
    if dry:
        yield f"Dry run: {created} to create, {deleted} to delete{back}" + (
            f", {failed} would fail." if failed else "."
        )
    else:
        yield f"Snapshots: {created} created, {deleted} deleted{back}, {failed} failed."


def output(policies: Sequence[Policy], outcomes: Sequence[Outcome], now: datetime, dry: bool) -> Output:
    """What is printed in the end: as text the summary alone, as the lines have been printed one by one."""
    end = "\n".join(summary(policies, outcomes, now, dry))
    return Output(
        lambda: as_json(policies, outcomes, now, dry),
        lambda: end,
        lambda: framed("\n".join([*(line for outcome in outcomes for line in lines(outcome, dry)), end])),
    )


def as_json(policies: Sequence[Policy], outcomes: Sequence[Outcome], now: datetime, dry: bool) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "errored": any(outcome.errors for outcome in outcomes),
        "dry_run": dry,
        "at": _time(now),
        "policies": [
            {
                "address": str(policy.resource.id),
                "suspended": next_time is None,
                "next": next_time and _time(next_time.astimezone(UTC)),
                "domains": [_domain(outcome) for outcome in outcomes if outcome.policy is policy.resource],
            }
            for policy in policies
            for next_time in [policy.next_due(now)]
        ],
        "diagnostics": [
            entry
            for outcome in outcomes
            for error in outcome.errors
            for entry in diagnostics(error, address=str(outcome.target.id), policy=str(outcome.policy.id))
        ],
    }


def _domain(outcome: Outcome) -> dict[str, object]:
    return {
        "address": str(outcome.target.id),
        "created": outcome.created or None,
        "skipped": outcome.skipped or None,
        "deleted": list(outcome.deleted),
        "held_back": list(outcome.held),
        "snapshots": [
            {
                "name": verdict.made.name,
                "at": _time(verdict.made.at),
                "keep": verdict.kept,
                "reasons": list(verdict.reasons) or [verdict.why],
            }
            for verdict in outcome.verdicts
        ],
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
