"""Write the reference pages of the documentation: `.venv/bin/python script/reference.py` (docs/reference/).

Kinds, fields and kvmstate.yaml come from the models, commands from --help, metrics from what the daemon answers, JSON
from the schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import reference_json

from kvmstate.cli import GROUPS, cli
from kvmstate.cli.explain import PROJECT_FILE, Found, example, facts_of, find, kind_of, meaning
from kvmstate.cli.reference import pages
from kvmstate.kinds import ALL_KINDS
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.status_store import State, StatusStore
from kvmstate.reconcile.workqueue import WorkQueue

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by script/reference.py: do not edit. -->\n"


def texts() -> dict[str, str]:
    """The pages by their place in docs/."""
    made = {f"reference/{kind.name}.md": _kind(kind.name) for kind in ALL_KINDS}
    made["reference/kinds.md"] = _kinds()
    made["reference/project-file.md"] = _kind(PROJECT_FILE)
    made["reference/commands.md"] = _commands()
    made["reference/metrics.md"] = _metrics()
    made["reference/json.md"] = reference_json.page()
    return {name: f"{MADE}\n{text.rstrip()}\n" for name, text in made.items()}


def _kinds() -> str:
    rows = "\n".join(f"| [{kind.name}]({kind.name}.md) | `{kind.address}` | {kind.title} |" for kind in ALL_KINDS)
    head = "# Kinds\n\nEach manifest is of one kind. `lifecycle` and `metadata` are the same for all.\n\n"
    return f"{head}| kind | address | what it is |\n|---|---|---|\n{rows}\n\n" + "\n\n".join(
        f"## {section}\n\n{_table(find(f'{ALL_KINDS[0].name}.{section}'), cost=False)}"
        for section in ("metadata", "lifecycle")
    )


def _kind(name: str) -> str:
    found = find(name)
    shown = "\n".join(f"    {line}".rstrip() for line in example(name).splitlines())
    return f"# {name}\n\n{meaning(found)}\n\n{shown}\n\n## Fields\n\n{_table(found, name != PROJECT_FILE)}"


def _table(found: Found, cost: bool) -> str:
    rows = [_row(below, found, cost) for below in _below(found, ())]
    head = ["field", "type", "what it is", *(["a change", "XML"] if cost else [])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _below(found: Found, inside: tuple[int, ...]) -> Iterator[Found]:
    known = {id(variant) for variant in found.variants()}
    if known & set(inside):
        return
    for name in found.fields():
        below = find(f"{found.name}.{name}")
        yield below
        yield from _below(below, (*inside, *known))


def _row(found: Found, top: Found, cost: bool) -> list[str]:
    facts = {name: " ".join(str(value).split()) for name, value in facts_of(found).items()}
    said = [
        _cell(meaning(found)),
        *(f"{n}: {_code(facts[n])}." for n in ("Default", "At least", "At most") if n in facts),
    ]
    row = [f"`{found.name.removeprefix(f'{top.name}.')}`", _cell(kind_of(found.schema, found.root)), " ".join(said)]
    return row + ([_cell(facts.get("Change", "")), _code(facts.get("XML", ""))] if cost else [])


def _cell(text: str) -> str:
    return re.sub(r"([<>|*_{}])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    # what is code to Markdown is shown as it is, but for what ends a cell
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def _commands() -> str:
    found = {page.name: page for page in pages(cli)}
    parts = [
        "# Commands",
        "What `kvmstate COMMAND --help` says. Exit codes: 0 done; 1 any error; 128 and a signal's number.",
    ]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for page in (page for name in names for page in found.values() if page.name.split()[1:2] == [name]):
            options = "\n".join(f"| {_code(option.name)} | {_cell(option.text)} |" for option in page.options)
            text = "\n\n".join(map(_paragraph, page.text.split("\n\n")))
            parts += [f"### {page.name}", f"    {page.usage}", text]
            parts += [f"| option | |\n|---|---|\n{options}"] if options else []
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return "\n".join(f"    {line}" for line in text.splitlines()[1:])
    return _cell(text)


def _metrics() -> str:
    text = Metrics(StatusStore(State()), WorkQueue()).text().decode()
    helps = re.findall(r"^# HELP (kvmstate_\S+) (.*)$", text, re.MULTILINE)
    types = dict(re.findall(r"^# TYPE (kvmstate_\S+) (\S+)$", text, re.MULTILINE))
    rows = "\n".join(f"| `{name}` | {types[name]} | {_cell(said)} |" for name, said in sorted(set(helps)))
    about = "`kvmstate run` answers `/metrics` for Prometheus. Pools and policies have metrics once there are some."
    return f"# Metrics\n\n{about}\n\n| metric | type | what it is |\n|---|---|---|\n{rows}"


if __name__ == "__main__":
    for place, content in texts().items():
        (DOCS / place).parent.mkdir(exist_ok=True)
        (DOCS / place).write_text(content, encoding="utf-8")
        print(f"wrote docs/{place}")
