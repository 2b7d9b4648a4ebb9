"""`kvmstate pin`: checksums of images from their vendors' lists, written into the manifests: what decides is in git."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import inputs, paths_argument
from kvmstate.errors import KvmstateError, ManifestErrors, Problem, SourceError, UsageError
from kvmstate.model.printable import harmless
from kvmstate.model.uri import redacted
from kvmstate.views.formats import Format, Output

if TYPE_CHECKING:
    from kvmstate.manifest.pin import Place
    from kvmstate.manifest.sources import Source

FORMAT_VERSION = "1.0"
# A list of all images of a vendor has some thousand lines
_LONGEST = 16 << 20


@click.command("pin")
@paths_argument
@click.option("--checksums", metavar="URL|FILE", help="The vendor's list, where no manifest says `checksums`.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The vendor's public keys (OpenPGP): a list that they have not signed is refused.",
)
@click.option(
    "--signature",
    metavar="URL|FILE",
    help="The list's signature. Default: in the list itself, or beside it, as .sign, .gpg, .asc or .sig.",
)
@click.option("--check", is_flag=True, help="Write nothing. Exit code 2: a manifest has another checksum.")
@format_option
def command(
    checksums: str | None, key: Path | None, signature: str | None, check: bool, fmt: Format, paths: tuple[Path, ...]
) -> int:
    """Write checksums of images into manifests.

    Each `content` with a `url` gets its `checksum` from the vendor's list that `checksums` beside it names, such as
    SHA512SUMS: GNU's style or BSD's, sha512 before sha256. All else in the file stays. Nothing is written where one is
    not found, or the list is not signed with --key.
    """
    from kvmstate.manifest import pin
    from kvmstate.manifest.sources import sources

    if signature and not key:
        raise UsageError("--signature needs --key", "the key that the list is to be signed with")
    lists = Lists(checksums, key, signature)
    project = inputs(paths).project()
    problems: list[Problem] = []
    found, _ = sources(paths or project.paths, project.skip, problems, project.file, project.reach, named=not paths)
    texts: dict[Path, str] = {}
    told = []
    for source in found:
        if source.is_template or source.path is None:
            if paths and source.label in map(os.path.normpath, map(str, paths)):
                raise UsageError(f"{source.label}: a template is not edited", "write its checksum by hand")
            continue
        text = before = _text(source)
        for place in pin.places(text):
            if not (place.checksums or checksums):
                if not place.checksum:
                    hint = "write `checksums: SHA512SUMS` beside the url, or give --checksums URL"
                    problems.append(_problem(source, place, "nobody says where the list of checksums is", hint))
                continue
            try:
                value = lists.checksum(place.url, place.checksums)
            except KvmstateError as error:
                problems.append(_problem(source, place, error.message, error.hint))
                continue
            told.append((source.label, place, value))
            if value != place.checksum:
                edited = pin.with_checksum(text, place, value)
                if edited is None:
                    problems.append(
                        _problem(source, place, "the checksum cannot be written here", f"write `checksum: {value}`")
                    )
                text = edited or text
        if text != before:
            texts[source.path] = text
    if problems:
        raise ManifestErrors(problems)
    if not told:
        raise UsageError(
            "no manifest has content from a url with a list of checksums", "see `kvmstate explain Volume.content`"
        )
    if not check:
        _write(texts)
    show(fmt, Output(lambda: _data(told), lambda: _said(told, check, key)))
    return 2 if check and texts else 0


class Lists:
    """The lists of vendors, each fetched and verified once."""

    def __init__(self, given: str | None = None, key: Path | None = None, signature: str | None = None) -> None:
        self._given, self._key, self._signature = given, key, signature
        self._known: dict[str, str] = {}

    def checksum(self, url: str, checksums: str) -> str:
        """What the list that a content says, or the one that is given, has for the image at `url`. Raises
        KvmstateError."""
        from kvmstate.sources.checksums import listed

        where = urljoin(url, checksums) if checksums else self._given or ""
        if checksums and not where.startswith(("http://", "https://")):
            raise SourceError(f"{checksums} is not at an http or https address", "or relative to the url")
        if where not in self._known:
            self._known[where] = self._list(where).decode(errors="replace")
        try:
            return listed(self._known[where], unquote(urlsplit(url).path))
        except SourceError as error:
            raise SourceError(f"{redacted(where)}: {error.message}", error.hint) from None

    def _list(self, where: str) -> bytes:
        from kvmstate.sources.checksums import is_signed, verified

        content = _fetched(where)
        if self._key is None:
            return content
        try:
            if self._signature is None and is_signed(content):
                return verified(content, None, self._key)
            return verified(content, self._signed(where), self._key)
        except SourceError as error:
            raise SourceError(f"{redacted(where)}: {error.message}", error.hint) from None
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from None

    def _signed(self, where: str) -> bytes:
        from kvmstate.sources.checksums import SUFFIXES

        if self._signature:
            return _fetched(self._signature)
        for suffix in SUFFIXES:
            try:
                return _fetched(where + suffix)
            except KvmstateError:
                continue
        raise SourceError(f"there is no signature beside it ({', '.join(SUFFIXES)})", "give its place: --signature URL")


def _fetched(where: str) -> bytes:
    """What is at an address or in a file. Raises KvmstateError."""
    if where.startswith(("http://", "https://")):
        from kvmstate.kinds.volume.download import download

        with download(where) as coming:
            content = coming.read(min(coming.length, _LONGEST + 1))
    else:
        try:
            content = Path(where).read_bytes()
        except OSError as error:
            raise UsageError(f"{where}: {error.strerror}", "an http or https address, or a file") from None
    if len(content) > _LONGEST:
        raise SourceError(f"{redacted(where)} is not a list of checksums: it is too long", "check its address")
    return content


def _text(source: Source) -> str:
    from kvmstate.manifest.text import MAX_BYTES

    try:
        # the ends of its lines stay
        return source.read(MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{source.label}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source.label}: this is not UTF-8 text", "kvmstate validate says more") from None


def _write(texts: dict[Path, str]) -> None:
    from kvmstate.manifest.edit import replace

    for path, text in texts.items():
        try:
            replace(Path(os.path.realpath(path)), text)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None


def _problem(source: Source, place: Place, message: str, hint: str) -> Problem:
    return Problem(message, source.label, place.line, place.column, "", hint)


def _said(told: list[tuple[str, Place, str]], check: bool, key: Path | None) -> str:
    lines = []
    for label, place, value in told:
        same = value == place.checksum
        verb = "has" if same else "would get" if check else "has now"
        lines.append(harmless(f"{label}:{place.line}: {redacted(place.url)} {verb} checksum {value}"))
        if not same and place.checksum:
            lines.append(harmless(f"  before: {place.checksum}"))
    if key is None:
        lines.append("no signature was verified: --key FILE has the vendor's keys")
    return "\n".join(lines)


def _data(told: list[tuple[str, Place, str]]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "pins": [
            {
                "file": label,
                "line": place.line,
                "url": redacted(place.url),
                "checksum": value,
                "before": place.checksum or None,
            }
            for label, place, value in told
        ],
    }
