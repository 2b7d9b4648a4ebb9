"""Files to resources: every problem of every file at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvmstate.errors import ManifestErrors, Problem
from kvmstate.manifest import references, rules
from kvmstate.manifest.cache import Cache
from kvmstate.manifest.document import may_hold_secrets, resource
from kvmstate.manifest.expand import expanded
from kvmstate.manifest.inherit import inherited, inherits
from kvmstate.manifest.manifests import Document, Loaded, Manifests
from kvmstate.manifest.reach import Reach
from kvmstate.manifest.sources import Source, sources
from kvmstate.manifest.text import EMPTY, MAX_BYTES, Reader
from kvmstate.manifest.values import Reads

if TYPE_CHECKING:
    from kvmstate.manifest.providers import Providers

MAX_ALL_BYTES = 32 << 20


def load(
    paths: Sequence[Path],
    *,
    values: Mapping[str, object] | None = None,
    skip: Collection[Path] = (),
    project: Path | None = None,
    reach: Reach | None = None,
    named: bool = False,
    providers: Callable[[], Providers] | None = None,
    name: str = "",
) -> Manifests:
    """The resources in these files and folders (`-` is standard input).

    `values` are what templates see; `skip` names files and folders that are not manifests; `project` is the project
    file that they belong to, and has `named` them if they are not given, and `name` is the project's; `reach` says
    where all that they name must lie; `providers` have the values of secrets: without them nobody needs these. Raises
    ManifestErrors with everything that is wrong, and UsageError for a path that is not there.
    """
    problems: list[Problem] = []
    loaded: list[Loaded] = []
    waiting: list[tuple[Document, Source]] = []
    found, empty = sources(paths, skip, problems, project, reach, named)
    rendered, reads = _rendered([source for source in found if source.is_template], values or {}, problems)
    cache = Cache([*paths, *([project] if project else ())])
    room = MAX_ALL_BYTES
    for source in found:
        reader = Reader(source.label, source.is_template)
        raw = _raw(source, rendered, reader)
        room -= len(raw or b"")
        if room < 0:
            problems.append(Problem(f"all manifests together have more than {MAX_ALL_BYTES:,} bytes", source.label))
            break
        if raw is not None:
            loaded += _resources(raw, source, reader, cache, name, waiting, reach)
        problems += reader.problems
    cache.save()
    loaded += inherited(waiting, loaded, name, problems, reach)
    loaded.sort(key=lambda item: (item.resource.id, item.source.label, item.document.line))
    problems += rules.shown(loaded)
    dangling = references.check(loaded, problems, reach)
    warnings = tuple(_given(loaded, providers, problems))
    if problems:
        raise ManifestErrors(problems)
    return Manifests(
        tuple(item.resource for item in loaded),
        dangling,
        tuple(source.label for source in found),
        tuple(empty),
        reads,
        warnings,
        documents={item.resource.id: item.document for item in loaded},
    )


def _resources(
    raw: bytes,
    source: Source,
    reader: Reader,
    cache: Cache,
    project: str,
    waiting: list[tuple[Document, Source]],
    reach: Reach | None,
) -> Iterator[Loaded]:
    """Those of one text, but for documents that are `waiting` for the template that they name."""
    said = cache.get(raw)
    documents: Iterable[Document]
    if said is not None:
        documents = (Document(*each, source, raw) for each in said)
    else:
        documents = (Document.of(node, source) for node in reader.documents(reader.decode(raw)))
    new, secret = [], False
    for document in documents:
        if kind := inherits(document):
            waiting.append((document, source))
            if said is None:
                new.append((document.line, document.column, document.data))
                secret = secret or may_hold_secrets(document.data, kind.specs)
            continue
        made = resource(document, source.label, reader.report)
        if made is not None:
            if said is None:
                new.append((document.line, document.column, document.data))
                secret = secret or may_hold_secrets(document.data, (type(made.spec),))
            yield from expanded(Loaded(made, document, source), project, reader.report, reach)
    if said is None and not reader.problems and not secret:
        cache.put(raw, new)


def _given(loaded: list[Loaded], providers: Callable[[], Providers] | None, problems: list[Problem]) -> Iterable[str]:
    if not any(item.resource.spec.gives() or item.resource.spec.takes() for item in loaded):
        return ()
    from kvmstate.manifest.secrets import give  # few manifests have secrets

    return give(loaded, providers and providers(), problems)


def _rendered(
    templates: list[Source], values: Mapping[str, object], problems: list[Problem]
) -> tuple[dict[str, str], Reads]:
    if not templates:
        return {}, frozenset()
    from kvmstate.manifest.template import render  # its process takes time to start

    return render(templates, values, problems)


def _raw(source: Source, rendered: Mapping[str, str], reader: Reader) -> bytes | None:
    try:
        if source.is_template:
            if source.is_empty:
                reader.report(*EMPTY)
            return rendered.get(source.label, "").encode(errors="surrogatepass")
        return source.read(MAX_BYTES)
    except OSError as error:
        reader.report(f"cannot be read: {error.strerror}")
        return None
