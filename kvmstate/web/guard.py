"""Who may ask, and over what: a token, and TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import UsageError
from kvmstate.web.address import Address

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Guard:
    """Who may ask: whoever knows the token, else whoever reaches the socket. `open` are paths without it."""

    token: str = ""
    tls: ssl.SSLContext | None = None
    open: frozenset[str] = frozenset()


def guard(
    address: Address, token_file: Path | None, cert: Path | None, key: Path | None, unguarded: frozenset[str]
) -> Guard:
    """Choose who may ask, and over which TLS. Raises UsageError for files that will not do, and for an address that
    others reach without token and TLS."""
    if not address.is_private and not (token_file and cert and key):
        raise UsageError(
            f"{address} can be reached from other machines, so it needs a token and TLS",
            "give --token-file, --tls-cert and --tls-key, or listen on 127.0.0.1 or a unix socket",
        )
    if bool(cert) != bool(key):
        raise UsageError("--tls-cert and --tls-key go together")
    token = ""
    if token_file:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--token-file {token_file}: {getattr(error, 'strerror', None) or error}") from None
        if len(token) < SHORTEST_TOKEN:
            raise UsageError(
                f"--token-file {token_file}: the token has less than {SHORTEST_TOKEN} characters",
                "make one: `openssl rand -hex 32`",
            )
    context = None
    if cert and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            raise UsageError(f"--tls-cert {cert}, --tls-key {key}: {error.strerror or error}") from None
    return Guard(token, context, unguarded)
