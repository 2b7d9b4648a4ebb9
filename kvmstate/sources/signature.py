"""Who signed a revision. The anchors are local files: what a repository says of trust plays no part."""

from __future__ import annotations

import re
import tempfile

from kvmstate.errors import SourceError
from kvmstate.sources.remote import Git
from kvmstate.sources.repository import Repository

SSH = re.compile(r'^Good "git" signature for (.+) with \S+ key \S+$', re.MULTILINE)
GPG = re.compile(r"^\[GNUPG:\] GOODSIG [0-9A-F]+ (.+)$", re.MULTILINE)
REASONS = (
    (r"EXPKEYSIG|KEYEXPIRED", "the key has expired"),
    (r"EXPSIG", "the signature has expired"),
    (r"REVKEYSIG", "the key was revoked"),
    (
        r"NO_PUBKEY|No principal matched|[Cc]annot run|exec.*false|gpg failed",
        "none of the keys that are trusted made it",
    ),
    (r"BADSIG|incorrect signature", "the content is not what was signed"),
)


def signer(repository: Repository, settings: Git, object_: str) -> str:
    """Who signed a commit, or a tag that is an object of its own (then for the commit that it names).

    An SSH key's principal, or a GPG key's user id; empty when nothing is to be verified. Raises SourceError for what
    is not signed by a trusted key, and for a tag that was made under another name.
    """
    if not settings.is_verified:
        return ""
    kind = repository.git("cat-file", "-t", object_).strip()
    what = f"{kind} {object_[:12]} ({settings.asked} of {settings.url})"
    with tempfile.TemporaryDirectory(prefix="kvmstate-gpg-") as keyring:
        if settings.verify_gpg:
            _import(repository, settings, keyring)
        answer = repository.ask(f"verify-{kind}", "--raw", object_, environment={"GNUPGHOME": keyring})
    match = SSH.search(answer.err) or GPG.search(answer.err)
    if answer.code or not match:
        raise _refused(repository, settings, object_, what, answer.err)
    if kind == "tag" and (name := _name(repository, object_)) != settings.tag:
        raise SourceError(f"{what} was signed as tag {name}", "somebody has put it under another name")
    return match[1]


def _import(repository: Repository, settings: Git, keyring: str) -> None:
    command = [
        "gpg",
        "--homedir",
        keyring,
        "--batch",
        "--quiet",
        "--no-autostart",
        "--import",
        str(settings.verify_gpg),
    ]
    answer = repository.run(command)
    if answer.code:
        said = answer.err.strip().splitlines()[-1:] or ["no keys"]
        raise SourceError(
            f"--verify-gpg {settings.verify_gpg}: {said[0]}",
            "it holds public keys, as `gpg --export --armor` writes them",
        )


def _refused(repository: Repository, settings: Git, object_: str, what: str, said: str) -> SourceError:
    content = repository.git("cat-file", "-p", object_)
    if not re.search(r"-----BEGIN (SSH|PGP|SIGNED)", content):
        return SourceError(f"{what} is not signed", "git commit -S and git tag -s sign")
    reason = next((reason for pattern, reason in REASONS if re.search(pattern, said)), "")
    trusted = " or ".join(str(path) for path in (settings.verify_ssh, settings.verify_gpg) if path)
    last = (said.strip().splitlines() or ["no reason given"])[-1]
    return SourceError(
        f"the signature of {what} is not to be trusted: {reason or last}", f"{trusted} says whose signatures are"
    )


def _name(repository: Repository, tag: str) -> str:
    match = re.search(r"^tag (.+)$", repository.git("cat-file", "tag", tag), re.MULTILINE)
    return match[1] if match else ""
