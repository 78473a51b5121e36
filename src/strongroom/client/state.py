"""What a deployment says of itself: parsed, bounded, and believed by nobody until :mod:`strongroom.client.trust`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.access.request import LogHead
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.personnel.lifecycle import MAX_SUSPENDED
from strongroom.release.documents import DocumentKind
from strongroom.release.pending import Pending
from strongroom.release.precaution_ledger import MAX_PRECAUTIONS, Standing

MAX_CHECKPOINT: Final = 65536
MAX_MODELS: Final = 4096
MAX_WAITING: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model's current version, as the server tells it."""

    version: int
    manifest: Digest
    data_key: str
    frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingChange:
    """A document that the root quorum signed and that isn't in force yet."""

    kind: DocumentKind
    epoch: int
    document: Digest
    effective: Instant

    @classmethod
    def read(cls, fields: Fields) -> WaitingChange:
        """Read the JSON form."""
        return cls(
            kind=fields.parsed("kind", DocumentKind),
            epoch=fields.integer("epoch", least=1),
            document=fields.digest("document"),
            effective=fields.instant("effective"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonStanding:
    """Who somebody is today, as the keeper says. It helps to choose; the keeper judges everybody again at each use."""

    person: PersonId
    kind: str
    unit: str
    roles: tuple[str, ...]
    active: bool
    suspended: bool
    tier: int
    vetted_until: Instant | None
    serial: int
    hardware_keys: int

    @classmethod
    def read(cls, fields: Fields) -> PersonStanding:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            person=fields.parsed("person", person_id),
            kind=fields.text("kind", max_length=16),
            unit=fields.text("unit", max_length=64),
            roles=fields.texts("roles", most=16, max_length=48),
            active=fields.boolean("active"),
            suspended=fields.boolean("suspended"),
            tier=fields.integer("tier", most=5),
            vetted_until=fields.instant("vetted_until") if fields.optional("vetted_until") else None,
            serial=fields.integer("serial"),
            hardware_keys=fields.integer("hardware_keys", most=16),
        )

    def cleared(self, at: Instant) -> bool:
        """Tell whether the vetting holds at ``at``."""
        return self.active and self.vetted_until is not None and at < self.vetted_until


@dataclass(frozen=True, slots=True, kw_only=True)
class CapUse:
    """A class of access, how many people hold it, and how many may."""

    access: str
    people: int
    cap: int

    @classmethod
    def read(cls, fields: Fields) -> CapUse:
        """Read the JSON form."""
        return cls(
            access=fields.text("access", max_length=16), people=fields.integer("people"), cap=fields.integer("cap")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The answer to "what is in force?"."""

    genesis: Digest
    locked: bool
    cause: str
    documents: Mapping[DocumentKind, Envelope]
    models: Mapping[ModelId, ModelStatus]
    frozen: tuple[ModelId, ...]
    suspended: tuple[PersonId, ...]
    waiting: tuple[WaitingChange, ...]
    destructions: tuple[Pending, ...]
    """Agreed on, and not carried out."""
    destroyed: tuple[ModelId, ...]
    irrecoverable: tuple[ModelId, ...]
    """Their keys are in no escrow."""
    closed: tuple[ModelId, ...]
    """Irrecoverable ones that the keeper can't open as it is unlocked now."""
    lost: tuple[ModelId, ...]
    """Their keys are gone, and nobody destroyed them."""
    precautions: tuple[Standing, ...]
    """What responders had taken away for a while."""
    log: LogHead
    """As far as the keeper knows the log to be durable; unsigned."""
    latest: Instant
    checkpoint: bytes
    """The newest signed checkpoint: what is believed of the log."""

    @classmethod
    def read(cls, value: Json) -> State:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        with reading(value, "state") as fields:
            with fields.child("log") as log:
                root = log.binary("root", max_length=32)
                if len(root) != 32:
                    raise MalformedError("`state.log.root` must have 32 bytes")
                head = LogHead(size=log.integer("size"), root=Digest(DigestAlgorithm.SHA256, root))
            return cls(
                genesis=fields.digest("genesis"),
                locked=fields.boolean("locked"),
                cause=fields.text("cause"),
                documents=_documents(fields.child("documents")),
                models=_models(fields.value("models")),
                frozen=_model_ids(fields, "frozen"),
                suspended=tuple(person_id(text) for text in fields.texts("suspended", most=MAX_SUSPENDED)),
                waiting=fields.objects("waiting", WaitingChange.read, most=MAX_WAITING),
                destructions=fields.objects("destructions", Pending.read, most=MAX_MODELS),
                destroyed=_model_ids(fields, "destroyed"),
                irrecoverable=_model_ids(fields, "irrecoverable"),
                closed=_model_ids(fields, "closed"),
                lost=_model_ids(fields, "lost"),
                precautions=fields.objects("precautions", Standing.read, most=MAX_PRECAUTIONS),
                log=head,
                latest=fields.instant("latest"),
                checkpoint=checkpoint_text(fields),
            )


def checkpoint_text(fields: Fields) -> bytes:
    """Take a signed checkpoint: text of several lines.

    :raises MalformedError: not text, or too long.
    """
    value = fields.value("checkpoint")
    if not isinstance(value, str) or len(value) > MAX_CHECKPOINT:
        raise MalformedError("a checkpoint is text")
    return value.encode()


def _model_ids(fields: Fields, name: str) -> tuple[ModelId, ...]:
    return tuple(model_id(text) for text in fields.texts(name, most=MAX_MODELS))


def _documents(fields: Fields) -> dict[DocumentKind, Envelope]:
    documents = {}
    with fields:
        for kind in DocumentKind:
            if fields.optional(kind.value):
                with fields.child(kind.value) as child:
                    documents[kind] = Envelope.read(child)
    return documents


def _models(value: Json) -> dict[ModelId, ModelStatus]:
    if not isinstance(value, dict) or len(value) > MAX_MODELS:
        raise MalformedError(f"`state.models` must be an object of at most {MAX_MODELS} models")
    models = {}
    for name, item in value.items():
        with reading(item, "state.models") as fields:
            models[model_id(name)] = ModelStatus(
                version=fields.integer("version", least=1),
                manifest=fields.digest("manifest"),
                data_key=fields.text("data_key", max_length=128),
                frozen=fields.boolean("frozen"),
            )
    return models
