"""Webhook, Slack and e-mail. Secrets are read from their files each time, so that they may be renewed.

urllib3 sends: it has timeouts, system certificates and no more dependencies, where requests and httpx bring
certificates of their own; Apprise knows a hundred more services, but carries secrets in URLs and says only that
something failed, not what.
"""

from __future__ import annotations

import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from kvmstate import __version__
from kvmstate.manifest.notifications import Email, Notification, Slack, Webhook
from kvmstate.model.printable import harmless, one_line
from kvmstate.reconcile.notify.credentials import Credentials
from kvmstate.reconcile.notify.notices import Notice, NotSent, Sender

# Seconds for a receiver to answer in
TIMEOUT = 10.0
FORMAT_VERSION = "1.0"
SLACK_MAX = 3000


def sender(to: Notification, credentials: Credentials) -> tuple[str, Sender]:
    """Make what sends to this receiver, with a name for people that reveals nothing. Secrets are read from
    `credentials`."""
    if isinstance(to, Email):
        return f"email to {', '.join(to.to)}", lambda notice: _mail(to, credentials, notice)
    body = _slack if isinstance(to, Slack) else as_object
    where = urlsplit(to.url).hostname if isinstance(to, Webhook) and to.url else to.url_file
    return f"{to.type} {where}", lambda notice: _post(to, credentials, body(notice))


def as_object(notice: Notice) -> dict[str, object]:
    return {"format_version": FORMAT_VERSION, **vars(notice), "time": notice.time.isoformat().replace("+00:00", "Z")}


def _slack(notice: Notice) -> dict[str, object]:
    text = as_text(notice)[:SLACK_MAX]
    # https://api.slack.com/reference/surfaces/formatting#escaping
    for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, escaped)
    return {"text": text}


def subject(notice: Notice) -> str:
    about = f"{notice.resource}: " if notice.resource else ""
    return one_line(f"[{notice.project}] {about}{notice.reason}")[:200]


def as_text(notice: Notice) -> str:
    lines = [f"{subject(notice)} on {notice.host}", notice.message]
    lines += [f"hint: {notice.hint}"] if notice.hint else []
    lines += [f"manifests: revision {notice.revision}"] if notice.revision else []
    return harmless("\n".join(lines))


def _post(to: Webhook | Slack, credentials: Credentials, body: dict[str, object]) -> None:
    url = to.url if isinstance(to, Webhook) and to.url else credentials.read(to.url_file or "")
    token = credentials.read(to.token_file) if isinstance(to, Webhook) and to.token_file else ""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise NotSent(f"{to.url_file}: what it holds is not a URL")
    headers = {"Content-Type": "application/json", "User-Agent": f"kvmstate/{__version__}"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with _pool(url) as pool:
            answer = pool.request(
                "POST",
                url,
                body=json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(total=TIMEOUT),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            status = answer.status
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise NotSent(_scrubbed(error, url, token)) from None
    if not 200 <= status < 300:
        raise NotSent(f"it answers {status}")


def _pool(url: str) -> urllib3.PoolManager:
    """By way of the proxy that the environment names, if any (https_proxy, no_proxy)."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    # the system's certificates
    context = ssl.create_default_context() if parts.scheme == "https" else None
    return urllib3.ProxyManager(proxy, ssl_context=context) if proxy else urllib3.PoolManager(ssl_context=context)


def _scrubbed(error: Exception, *secrets: str) -> str:
    # urllib3 takes a connection that is refused for a kind of timeout
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError) and not refused:
        return f"no answer within {TIMEOUT:g} s"
    said = str(error)
    for secret in secrets:
        path = urlsplit(secret).path if "://" in secret else secret
        for part in (secret, path if len(path) > 1 else ""):
            said = said.replace(part, "…") if part else said
    return one_line(said.rpartition("object at 0x")[2] or said)[:300]


def _mail(to: Email, credentials: Credentials, notice: Notice) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject(notice), to.sender, ", ".join(to.to)
    message["Date"] = format_datetime(notice.time)
    message["Message-ID"] = make_msgid(domain=to.sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(as_text(notice))
    password = credentials.read(to.password_file) if to.password_file else ""
    at = urlsplit(f"//{to.server}")
    host = at.hostname or ""
    context = ssl.create_default_context()
    try:
        if to.encryption == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, at.port or 465, timeout=TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(host, at.port or (25 if to.encryption == "none" else 587), timeout=TIMEOUT)
        with server:
            if to.encryption == "starttls":
                server.starttls(context=context)
            if to.username is not None:
                server.login(to.username, password)
            server.send_message(message)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise NotSent(_scrubbed(error, password)) from None
