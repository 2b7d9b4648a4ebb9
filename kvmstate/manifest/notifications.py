"""`reconcile.notifications` in kvmstate.yaml: who is notified of drift, failures and recoveries, and how."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from kvmstate.model.resource import Model


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("expected a URL such as https://hooks.example.org/kvmstate") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("expected a URL such as https://hooks.example.org/kvmstate")
    if url.username or url.password:
        raise ValueError("a URL with a password belongs into a file: urlFile")
    return text


def _server(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s\[\]/]+)(:([0-9]{1,5}))?", text)
    if not match or not 0 < int(match[3] or 25) < 65536:
        raise ValueError("expected a server such as mail.example.org:587")
    return text


def _mailbox(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\x00-\x1f\x7f]+@[^\s@<>,;:\x00-\x1f\x7f]+", text):
        raise ValueError("expected an address such as ops@example.org")
    return text


SecretFile = Annotated[
    str,
    Field(
        min_length=1,
        description="What holds it: the name of a credential (`kvmstate run --credential`, or systemd's), else a file "
        "in the project's folder, relative to kvmstate.yaml. With --git credentials only.",
    ),
]
Url = Annotated[str, AfterValidator(_url)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
Topic = Literal["drift", "failure", "recovery"]
Topics = Annotated[
    list[Topic],
    Field(
        min_length=1,
        description="drift: something was changed by others (and corrected, unless it is only observed); failure: "
        "something failed, or is blocked; recovery: it is over.",
    ),
]
ALL: list[Topic] = ["drift", "failure", "recovery"]
PerHour = Annotated[
    int, Field(ge=1, le=3600, description="At most so many; what was held back is summed up afterwards.")
]


class Webhook(Model):
    """A POST of one JSON object."""

    type: Literal["webhook"]
    url: Annotated[Url | None, Field(description="Where to; urlFile for one that is a secret.")] = None
    url_file: SecretFile | None = None
    token_file: Annotated[
        SecretFile | None, Field(description="Holds a token, which is sent as Authorization: Bearer.")
    ] = None
    on: Topics = ALL
    per_hour: PerHour = 20

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("expected url or urlFile, one of them")
        return self


class Slack(Model):
    """An incoming webhook of Slack, Mattermost or Rocket.Chat. Its URL is a secret."""

    type: Literal["slack"]
    url_file: SecretFile
    on: Topics = ALL
    per_hour: PerHour = 20


class Email(Model):
    type: Literal["email"]
    server: Annotated[
        str, AfterValidator(_server), Field(description="HOST:PORT. Default port: 587, with tls 465, without any 25.")
    ]
    encryption: Annotated[Literal["starttls", "tls", "none"], Field(description="none sends no password.")] = "starttls"
    sender: Annotated[Mailbox, Field(alias="from", description="The sender.")]
    to: Annotated[list[Mailbox], Field(min_length=1, description="The recipients.")]
    username: Annotated[str | None, Field(description="The account at the server; with passwordFile.")] = None
    password_file: SecretFile | None = None
    on: Topics = ALL
    per_hour: PerHour = 20

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and passwordFile go together")
        if self.username is not None and self.encryption == "none":
            raise ValueError("a password is not sent without encryption")
        return self


Notification = Annotated[Webhook | Slack | Email, Field(discriminator="type")]
