"""The request: one sequence of canonical bytes that the requester, every approver and the keeper see alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId, image_id, model_id, person_id, platform_id

REQUEST_TYPE: Final = payload_type("request.v1")
APPROVAL_TYPE: Final = payload_type("approval.v1")
"""An approval signs the request's payload under this type: the same bytes, a different domain."""
DENIAL_TYPE: Final = payload_type("denial.v1")
MAX_REQUEST_BYTES: Final = 16384
KEPT: Final = 1024
"""Requests that are kept as they were read."""
MAX_PLATFORMS: Final = 64
NONCE_BYTES: Final = 16


class Action(StrEnum):
    """What may be asked for. The names are Cedar action ids."""

    SEAL = "seal"
    OPEN_IN_ENCLAVE = "open-in-enclave"
    BREAK_GLASS = "break-glass"
    """Opens in an enclave like the one above, under a rule of its own, and must be reviewed afterwards."""
    EXPORT_PLAINTEXT = "export-plaintext"
    """Hands the data key to a person's recipient key."""
    FREEZE = "freeze"
    RESUME = "resume"
    REVOKE_GRANT = "revoke-grant"
    REVOKE_PLATFORM = "revoke-platform"
    ROTATE = "rotate"
    """Gives a model a new key-encryption key; its weights and data keys stay as they are."""
    LIFT = "lift"
    """Lifts a precaution: a hold, or that every answer is replayed."""
    DESTROY = "destroy"
    """Destroys a model's keys for good. It waits from the moment its quorum agreed on, in sight of everybody."""


OPENS: Final = frozenset({Action.OPEN_IN_ENCLAVE, Action.BREAK_GLASS})
"""Actions whose data key goes to an attested enclave."""
STOPS: Final = frozenset({Action.FREEZE, Action.REVOKE_GRANT, Action.REVOKE_PLATFORM})
"""What only takes away: an attacker would gain by slowing it. Every other lets something out, changes what can be let
out, gives something back, or can't be undone."""


class Purpose(StrEnum):
    """Why. A closed list: the log holds no free text, and a longer justification is named by digest."""

    PUBLISH = "publish"
    SERVE = "serve"
    EVALUATE = "evaluate"
    FINE_TUNE = "fine-tune"
    RESEARCH = "research"
    INCIDENT_RESPONSE = "incident-response"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """The log as a client saw it last: a size in entries and the root hash. Makes every signer a witness."""

    size: int
    root: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that is asked for. What doesn't apply to an action is empty, zero or null; nothing is left out."""

    genesis: Digest
    action: Action
    requester: PersonId
    model: ModelId
    version: int
    manifest: Digest | None
    purpose: Purpose
    ticket: str
    justification: Digest | None
    image: ImageId | None
    measurement: Digest | None
    """Digest of everything that the image may measure; fixes the reference values that the approver saw."""
    platforms: tuple[PlatformId, ...]
    recipient: Digest | None
    """For ``seal`` and ``export-plaintext``: digest of the recipient key that the requester's client made."""
    target: Digest | None
    """For ``revoke-grant``: the request whose grant falls. For ``lift``: the name of the precaution that ends."""
    not_before: Instant
    expires: Instant
    max_uses: int
    nonce: bytes
    roster: Digest
    policy: Digest
    log: LogHead

    @staticmethod
    @lru_cache(maxsize=KEPT)
    def parse(payload: bytes) -> Request:
        """Read canonical bytes. What was read is kept: one request is asked for many times, and in a hurry.

        :raises MalformedError: another form, a window that ends before it starts, or members that don't fit the action.
        """
        with Fields(decode(payload, max_bytes=MAX_REQUEST_BYTES), "request") as fields:
            fields.constant("v", 1)
            request = Request(
                genesis=fields.digest("genesis"),
                action=fields.parsed("action", Action),
                requester=fields.parsed("requester", person_id),
                model=fields.parsed("model", model_id),
                version=fields.integer("version", most=1_000_000),
                manifest=fields.digest("manifest") if fields.optional("manifest") else None,
                purpose=fields.parsed("purpose", Purpose),
                ticket=fields.text("ticket", max_length=64),
                justification=fields.digest("justification") if fields.optional("justification") else None,
                image=fields.parsed("image", image_id) if fields.optional("image") else None,
                measurement=fields.digest("measurement") if fields.optional("measurement") else None,
                platforms=tuple(platform_id(t) for t in fields.texts("platforms", most=MAX_PLATFORMS)),
                recipient=fields.digest("recipient") if fields.optional("recipient") else None,
                target=fields.digest("target") if fields.optional("target") else None,
                not_before=fields.instant("not_before"),
                expires=fields.instant("expires"),
                max_uses=fields.integer("max_uses", least=1, most=1_000_000),
                nonce=fields.binary("nonce", max_length=NONCE_BYTES),
                roster=fields.digest("roster"),
                policy=fields.digest("policy"),
                log=_log_head(fields.child("log")),
            )
        request._check()
        return request

    def _check(self) -> None:
        if self.expires <= self.not_before:
            raise MalformedError("the request expires before it begins")
        if len(self.nonce) != NONCE_BYTES:
            raise MalformedError(f"the request's nonce must have {NONCE_BYTES} bytes")
        if len(set(self.platforms)) != len(self.platforms):
            raise MalformedError("the request names a platform twice")
        opens = self.action in OPENS
        exports = self.action is Action.EXPORT_PLAINTEXT
        needed = {
            "manifest": (self.manifest is not None, opens or exports),
            "image": (self.image is not None, opens),
            "measurement": (self.measurement is not None, opens),
            "platforms": (bool(self.platforms), opens or self.action is Action.REVOKE_PLATFORM),
            "recipient": (self.recipient is not None, exports or self.action is Action.SEAL),
            "target": (self.target is not None, self.action in {Action.REVOKE_GRANT, Action.LIFT}),
            "version": (self.version > 0, opens or exports or self.action is Action.SEAL),
        }
        for name, (there, wanted) in needed.items():
            if there is not wanted:
                verb = "must be given" if wanted else "has no meaning"
                raise MalformedError(f"`request.{name}` {verb} for action `{self.action.value}`")
        if not opens and self.max_uses != 1:
            raise MalformedError(f"action `{self.action.value}` is used once")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is stored, shown, hashed and signed.

        :raises MalformedError: the members don't fit together, as in :meth:`parse`.
        """
        return encode(self.to_json())

    def to_json(self) -> Json:
        """Return the JSON form, for what holds a request within it.

        :raises MalformedError: the members don't fit together, as in :meth:`parse`.
        """
        self._check()
        return {
            "v": 1,
            "genesis": str(self.genesis),
            "action": self.action.value,
            "requester": self.requester,
            "model": self.model,
            "version": self.version,
            "manifest": _text(self.manifest),
            "purpose": self.purpose.value,
            "ticket": self.ticket,
            "justification": _text(self.justification),
            "image": self.image,
            "measurement": _text(self.measurement),
            "platforms": [*self.platforms],
            "recipient": _text(self.recipient),
            "target": _text(self.target),
            "not_before": format_instant(self.not_before),
            "expires": format_instant(self.expires),
            "max_uses": self.max_uses,
            "nonce": to_base64(self.nonce),
            "roster": str(self.roster),
            "policy": str(self.policy),
            "log": {"size": self.log.size, "root": str(self.log.root)},
        }

    @property
    def digest(self) -> Digest:
        """The request's name; also the name of the grant that it becomes."""
        return Digest.of(self.to_bytes())


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest else None


def _log_head(fields: Fields) -> LogHead:
    with fields:
        return LogHead(size=fields.integer("size"), root=fields.digest("root"))
