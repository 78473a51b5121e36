"""The destruction certificate: what was destroyed, by whose word, and every copy that may still exist.

    certificate = envelope, type ``destruction-certificate.v1``, by the keeper

It is drawn from the log alone, but for what the key services did: whoever has the log draws it again and compares. A
later certificate of the same model (``serial`` 2 and on) names the one before it: custodians may have answered since.

``not_reachable`` is never empty. Nobody can prove that a key has no copy: what isn't known to be gone stands there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from strongroom.access.request import Action
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import MAX_PAYLOAD, Envelope, payload_type, verify
from strongroom.core.errors import ConflictError, MalformedError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.keys.provider import Finality
from strongroom.release.destruction_ledger import Act
from strongroom.release.destruction_parts import (
    Answered,
    Because,
    Copy,
    Destroyed,
    Exposed,
    Exposure,
    Medium,
    Sealed,
    Step,
)
from strongroom.release.key_ledger import DestroyedModel

if TYPE_CHECKING:
    from strongroom.release.ledger import Ledger

CERTIFICATE_TYPE: Final = payload_type("destruction-certificate.v1")
MOST: Final = 512
"""Items of each list; what is left out is counted."""
MAX_PEOPLE: Final = 64
T = TypeVar("T")


class DestructionUnfinishedError(ConflictError):
    """The log doesn't say (yet) that the model's keys are gone, with the epoch and root key that they stood under."""

    code = "destruction-unfinished"


class CertificateMismatchError(TamperedError):
    """The certificate says something else than the log."""

    code = "certificate-mismatch"


_EXPOSES: Final = {
    Action.SEAL.value: Exposure.PUBLISHER,
    Action.OPEN_IN_ENCLAVE.value: Exposure.ENCLAVE,
    Action.BREAK_GLASS.value: Exposure.ENCLAVE,
    Action.EXPORT_PLAINTEXT.value: Exposure.EXPORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the keeper signs. Indexes are of entries of the deployment's log; times are those of the entries."""

    genesis: Digest
    model: ModelId
    serial: int
    previous: Digest | None
    """The certificate before this one; None for the first."""
    request: Digest
    requester: PersonId
    approvers: tuple[PersonId, ...]
    agreed: int
    """Log index of the grant."""
    agreed_at: Instant
    destroyed: int
    """Log index at which the model's keys stopped being used."""
    destroyed_at: Instant
    kek: str
    escrowed: bool
    """Whether custodians' shares ever opened a key-encryption key of this model."""
    versions: tuple[Sealed, ...]
    """The newest first."""
    versions_left_out: int
    epoch: Step
    """The epoch that the key-encryption key stood under: its key is gone, and which follows."""
    epoch_destroyed: int
    """Log index at which the epoch's key was gone."""
    generation: Step
    """The last generation of the root key that wrapped that epoch: it is gone, and which follows."""
    providers: tuple[Destroyed, ...]
    """What the key services destroyed."""
    answered: tuple[Answered, ...]
    exposed: tuple[Exposed, ...]
    """The newest first."""
    exposed_left_out: int
    not_reachable: tuple[Copy, ...]
    not_reachable_left_out: int
    log_size: int
    """Entries of the log that this was drawn from."""
    log_root: Digest
    certified_at: Instant

    @classmethod
    def parse(cls, payload: bytes) -> Certificate:
        """Read canonical bytes. It proves nothing: see :func:`verify_certificate`.

        :raises MalformedError: another form, or nothing that couldn't be reached.
        """
        with Fields(decode(payload, max_bytes=MAX_PAYLOAD), "destruction") as fields:
            fields.constant("v", 1)
            certificate = cls(
                genesis=fields.digest("genesis"),
                model=fields.parsed("model", model_id),
                serial=fields.integer("serial", least=1),
                previous=fields.digest("previous") if fields.optional("previous") else None,
                request=fields.digest("request"),
                requester=fields.parsed("requester", person_id),
                approvers=tuple(person_id(name) for name in fields.texts("approvers", most=MAX_PEOPLE)),
                agreed=fields.integer("agreed"),
                agreed_at=fields.instant("agreed_at"),
                destroyed=fields.integer("destroyed"),
                destroyed_at=fields.instant("destroyed_at"),
                kek=fields.text("kek", max_length=128),
                escrowed=fields.boolean("escrowed"),
                versions=fields.objects("versions", Sealed.read, most=MOST),
                versions_left_out=fields.integer("versions_left_out"),
                epoch=Step.read(fields.child("epoch")),
                epoch_destroyed=fields.integer("epoch_destroyed"),
                generation=Step.read(fields.child("generation")),
                providers=fields.objects("providers", Destroyed.read, most=MAX_PEOPLE),
                answered=fields.objects("answered", Answered.read, most=MOST),
                exposed=fields.objects("exposed", Exposed.read, most=MOST),
                exposed_left_out=fields.integer("exposed_left_out"),
                not_reachable=fields.objects("not_reachable", Copy.read, most=MOST),
                not_reachable_left_out=fields.integer("not_reachable_left_out"),
                log_size=fields.integer("log_size", least=1),
                log_root=fields.digest("log_root"),
                certified_at=fields.instant("certified_at"),
            )
        if (certificate.serial == 1) is not (certificate.previous is None):
            raise MalformedError("only the first certificate of a model follows none")
        if not certificate.not_reachable:
            raise MalformedError("a destruction certificate says what couldn't be reached")
        return certificate

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the keeper signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "model": self.model,
                "serial": self.serial,
                "previous": None if self.previous is None else str(self.previous),
                "request": str(self.request),
                "requester": self.requester,
                "approvers": [*self.approvers],
                "agreed": self.agreed,
                "agreed_at": format_instant(self.agreed_at),
                "destroyed": self.destroyed,
                "destroyed_at": format_instant(self.destroyed_at),
                "kek": self.kek,
                "escrowed": self.escrowed,
                "versions": [one.to_json() for one in self.versions],
                "versions_left_out": self.versions_left_out,
                "epoch": self.epoch.to_json(),
                "epoch_destroyed": self.epoch_destroyed,
                "generation": self.generation.to_json(),
                "providers": [one.to_json() for one in self.providers],
                "answered": [one.to_json() for one in self.answered],
                "exposed": [one.to_json() for one in self.exposed],
                "exposed_left_out": self.exposed_left_out,
                "not_reachable": [one.to_json() for one in self.not_reachable],
                "not_reachable_left_out": self.not_reachable_left_out,
                "log_size": self.log_size,
                "log_root": str(self.log_root),
                "certified_at": format_instant(self.certified_at),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What came of asking the key services: what they destroyed, and of which keys they couldn't destroy anything."""

    destroyed: tuple[Destroyed, ...]
    not_reached: tuple[tuple[str, Because], ...]
    """URI, and why."""

    def copies(self, generation: int) -> Iterator[Copy]:
        """Yield the keys that may still open what they closed for a generation of the root key and those before."""
        for one in self.destroyed:
            if one.finality is Finality.SCHEDULED:
                yield Copy(medium=Medium.PROVIDER, because=Because.SCHEDULED, name=one.provider, generation=generation)
        for uri, because in self.not_reached:
            yield Copy(medium=Medium.PROVIDER, because=because, name=uri, generation=generation)


def draw(
    ledger: Ledger, model: ModelId, *, genesis: Digest, services: Services, serial: int, certified_at: Instant
) -> Certificate:
    """Draw the certificate number ``serial`` of a destroyed model from the log.

    :raises DestructionUnfinishedError: the model isn't destroyed, or a step of it isn't in the log.
    """
    gone, told = ledger.keys.destroyed.get(model), ledger.destructions
    if gone is None:
        raise DestructionUnfinishedError(f"the keys of model `{model}` aren't destroyed")
    agreed, moved = told.agreed.get(gone.request), told.acts.get((EventName.EPOCH_ROTATED, gone.epoch))
    emptied = told.acts.get((EventName.EPOCH_DESTROYED, gone.epoch))
    last = told.emptied(ledger.keys.epochs_of(model))
    rooted = None if last is None else told.root_after(last)
    if moved is None or emptied is None or rooted is None or agreed is None:
        raise DestructionUnfinishedError(
            f"the destruction of model `{model}` isn't finished", remedy="start the keeper again: it goes on with it"
        )
    earlier = told.certificates.get(model, [])[: serial - 1]
    if len(earlier) != serial - 1:
        raise DestructionUnfinishedError(f"model `{model}` has {len(earlier)} certificates: {serial} can't follow")
    versions, versions_left_out = _newest(
        [
            Sealed(version=one.version, manifest=one.manifest, data_key=one.data_key)
            for one in ledger.versions.get(model, [])
        ]
    )
    exposed, exposed_left_out = _newest(list(_exposed(ledger, model)))
    generation, left = rooted
    copies = (*services.copies(generation), *_copies(ledger, gone, generation))
    return Certificate(
        genesis=genesis,
        model=model,
        serial=serial,
        previous=earlier[-1].digest if earlier else None,
        request=gone.request,
        requester=ledger.created[gone.request].requester,
        approvers=agreed.approvers,
        agreed=agreed.index,
        agreed_at=agreed.at,
        destroyed=gone.index,
        destroyed_at=gone.at,
        kek=gone.kek,
        escrowed=_escrowed(ledger, model),
        versions=versions,
        versions_left_out=versions_left_out,
        epoch=_step(gone.epoch, moved),
        epoch_destroyed=emptied.index,
        generation=_step(generation, left),
        providers=services.destroyed,
        answered=tuple(_answered(ledger, generation))[:MOST],
        exposed=exposed,
        exposed_left_out=exposed_left_out,
        not_reachable=copies[:MOST],
        not_reachable_left_out=max(0, len(copies) - MOST),
        log_size=ledger.size,
        log_root=Digest(DigestAlgorithm.SHA256, ledger.root_at(ledger.size)),
        certified_at=certified_at,
    )


def verify_certificate(envelope: Envelope, genesis: Genesis) -> Certificate:
    """Return a certificate that the keeper of a deployment signed.

    :raises SignatureError: not the keeper's, or a changed byte.
    :raises MalformedError: another form.
    :raises CertificateMismatchError: another deployment's.
    """
    verify(envelope, CERTIFICATE_TYPE, [genesis.keeper_key], threshold=1)
    certificate = Certificate.parse(envelope.payload)
    if certificate.genesis != genesis.digest:
        raise CertificateMismatchError("the certificate belongs to another deployment")
    return certificate


def require_drawn_from(certificate: Certificate, ledger: Ledger) -> None:
    """Check everything that a certificate says, but what the key services did, against the log that it was drawn from.

    :param ledger: folded from exactly the ``log_size`` first entries of the log.
    :raises CertificateMismatchError: the log says something else.
    """
    services = Services(
        destroyed=certificate.providers,
        not_reached=tuple(
            (copy.name, copy.because)
            for copy in certificate.not_reachable
            if copy.medium is Medium.PROVIDER and copy.because is not Because.SCHEDULED
        ),
    )
    try:
        drawn = draw(
            ledger,
            certificate.model,
            genesis=certificate.genesis,
            services=services,
            serial=certificate.serial,
            certified_at=certificate.certified_at,
        )
    except DestructionUnfinishedError as error:
        raise CertificateMismatchError(f"the log doesn't bear the certificate out: {error.message}") from None
    if drawn != certificate:
        raise CertificateMismatchError(
            "the certificate says something else than the log that it names",
            remedy="treat this as an incident: the keeper signed what isn't so, or this isn't its log",
        )


def _step(before: int, act: Act) -> Step:
    return Step(index=act.index, at=act.at, before=before, after=act.after)


def _newest(items: Sequence[T]) -> tuple[tuple[T, ...], int]:
    return tuple(reversed(items[-MOST:])), max(0, len(items) - MOST)


def _exposed(ledger: Ledger, model: ModelId) -> Iterator[Exposed]:
    for request, created in ledger.created.items():
        how, uses = _EXPOSES.get(created.action), ledger.uses.get(request)
        if created.model == model and how is not None and uses:
            yield Exposed(
                request=request,
                how=how,
                person=created.requester,
                uses=len(uses),
                first=uses[0].index,
                first_at=uses[0].at,
                last=uses[-1].index,
                last_at=uses[-1].at,
            )


def _copies(ledger: Ledger, gone: DestroyedModel, generation: int) -> Iterator[Copy]:
    yield Copy(medium=Medium.KEYRINGS, because=Because.ELSEWHERE, generation=generation)
    yield Copy(medium=Medium.DISK, because=Because.UNKNOWN, generation=generation)
    yield Copy(medium=Medium.STANZA, because=Because.UNKNOWN)
    yield Copy(medium=Medium.PLAINTEXT, because=Because.UNKNOWN)
    told = ledger.destructions
    shares = told.shares if _escrowed(ledger, gone.model) else {}
    for share, noted in shares.items():
        if share.generation <= generation and share not in told.answers:
            yield Copy(
                medium=Medium.SHARE,
                because=Because.NOT_ANSWERED,
                name=share.custodian,
                generation=share.generation,
                index=noted.index,
            )
    for moved, index in told.moves:
        # Whoever kept a keyring from before the move opens it by the key service of before, which nobody asked.
        if moved <= generation:
            yield Copy(medium=Medium.MOVED, because=Because.ELSEWHERE, generation=moved, index=index)
    for backup in told.backups:
        if backup.index < gone.index:
            yield Copy(medium=Medium.BACKUP, because=Because.ELSEWHERE, name=str(backup.digest), index=backup.index)


def _escrowed(ledger: Ledger, model: ModelId) -> bool:
    return any(kek.escrowed for kek in ledger.keys.of(model))


def _answered(ledger: Ledger, generation: int) -> Iterator[Answered]:
    for share, noted in ledger.destructions.answers.items():
        if share.generation <= generation:
            yield Answered(
                custodian=share.custodian, generation=share.generation, statement=noted.digest, index=noted.index
            )
