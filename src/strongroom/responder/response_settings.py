"""Whom the responder tells of incidents, who may speak to it, and which platforms its hosts are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from strongroom.broker.webhooks import MAX_URL, Target, read_url, webhook_name
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id
from strongroom.responder.noting import LOG
from strongroom.responder.settings import read_host, read_path, read_users

MAX_RECEIVERS: Final = 16
MAX_HOSTS: Final = 256
MAX_PLATFORMS: Final = 16


class Form(StrEnum):
    """What a receiver understands."""

    WEBHOOK = "webhook"
    """Standard Webhooks 1.0: our own body, signed."""
    PAGERDUTY = "pagerduty"
    """PagerDuty's Events API v2."""
    ALERTMANAGER = "alertmanager"
    """What Prometheus' Alertmanager sends to webhooks, version 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One receiver. ``secret`` names a file: what messages are signed with, or PagerDuty's routing key."""

    name: str
    form: Form
    url: str
    secret: str
    authority: str | None = None
    """A file of PEM certificates; without one, the system's authorities are trusted."""

    @property
    def target(self) -> Target:
        """Where to send."""
        return read_url(self.url)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or an address that nothing is sent to.
        """
        made = cls(
            name=fields.parsed("name", webhook_name),
            form=fields.parsed("form", Form),
            url=fields.text("url", max_length=MAX_URL),
            secret=read_path(fields, "secret"),
            authority=read_path(fields, "authority") if fields.optional("authority") else None,
        )
        read_url(made.url)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSettings:
    """What a file of settings says; without one, nobody is told and only the responder's own user may speak to it."""

    receivers: tuple[Receiver, ...] = ()
    platforms: dict[str, tuple[PlatformId, ...]] = field(default_factory=dict)
    """Host -> the enrolled platforms that it is."""
    users: tuple[int, ...] = ()
    """User ids of this machine that may speak to the responder: to read incidents. What they do there, they sign."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or a name twice.
        """
        fields.constant("v", 1)
        receivers = fields.objects("receivers", Receiver.read, most=MAX_RECEIVERS)
        if len({one.name for one in receivers}) != len(receivers):
            raise MalformedError("each receiver has a name of its own")
        if any(one.name == LOG for one in receivers):
            # Beside each incident stands who was told of how much of it, the log under that name.
            raise MalformedError(f"a receiver can't be called `{LOG}`: so is the deployment's own log")
        with fields.child("platforms") as hosts:
            platforms = {
                read_host(host): tuple(platform_id(text) for text in hosts.texts(host, most=MAX_PLATFORMS))
                for host in hosts.names(most=MAX_HOSTS)
            }
        return cls(receivers=receivers, platforms=platforms, users=read_users(fields, "users"))
