"""A delivery's way from its first record to its last, over ports: its folder, its encrypted copy, the wallet, the log.

1 terms       fixed, and named by the record `received`, before a byte is read
2 copy        read once, encrypted and hashed from one memory; from here on nothing reads what was delivered
3 signature   over what was stored
4 formats     every file of the copy by the gate's rules
5 scanners    every file that one asks for; whatever isn't its "clean" refuses
6 reviews     of the record that says all this
7 seal        from the copy, as the model's next version

Each step is signed by the operator and recorded in the log before the next begins. A step is written down before it is
handed in: after a crash it is handed in again, and the log takes it once. The gate goes on from records that its own
operator signed, and from no others. A refusal is final, and destroys the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom import __version__
from strongroom.client.service import Session
from strongroom.client.unfinished import unfinished_name
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.errors import ConflictError, DeniedError, NotFoundError, PendingError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.intake.folder import MAX_FILES, MAX_NAME
from strongroom.intake.formats.identify import FileVerdict, Format
from strongroom.intake.reviews import REVIEWER, Decision, Review, check_reviews
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.signatures import SignedBy
from strongroom.intake.source import Source
from strongroom.intake.states import FINAL, RecordsError, Standing, State, Tool, begin, fold
from strongroom.intake.verdict import FileList, Verdict
from strongroom.quarantine.terms import Scanner, SignatureTerms, Terms
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE, IntakeRecord
from strongroom.release.statements import StatementKind

GATE: Final = Tool("strongroom", __version__)
_KNOWN: Final = "intake-record-known"
_NOT_REGISTERED: Final = "intake-not-registered"
_MAX_REPORT: Final = 64 << 20


class Folder(Protocol):
    """Where a delivery's records and documents are; :mod:`.adapters.delivery_folder` is one."""

    def terms(self) -> Terms:
        """Return the terms."""
        ...

    def records(self) -> tuple[Envelope, ...]:
        """Return the signed records."""
        ...

    def proposed(self) -> Envelope | None:
        """Return a signed record of which isn't known whether it was recorded."""
        ...

    def propose(self, envelope: Envelope) -> None:
        """Make a signed record durable."""
        ...

    def withdraw(self) -> None:
        """Remove a record that was refused."""
        ...

    def accept(self, envelope: Envelope) -> None:
        """Take in a signed record that stands in the log."""
        ...

    def keep(self, document: bytes) -> Digest:
        """Keep a document."""
        ...

    def document(self, digest: Digest) -> bytes:
        """Return a document."""
        ...

    def judge(self, verdict: Envelope) -> None:
        """Make the verdict durable."""
        ...

    def drop_copy(self) -> None:
        """Remove the encrypted copy."""
        ...

    def drop_sealed(self) -> None:
        """Remove a version that was sealed, and never registered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What the gate does outside: each is an adapter."""

    take_in: Callable[[Terms], tuple[FileList, Digest]]
    """Makes the encrypted copy, or goes on with it; returns what was stored, and the copy's manifest digest."""
    opened: Callable[[Digest], AbstractContextManager[Mapping[str, Source]]]
    """Opens the copy with that manifest digest."""
    verify: Callable[[SignatureTerms, FileList], SignedBy]
    judge: Callable[[Mapping[str, Source]], dict[str, FileVerdict]]
    """Says what every file is, and refuses by the rules of its format; behind walls."""
    scan: Callable[[Scanner, str, Source], None]
    """Shows a scanner one file; refuses by the rule `scanner` unless it says "clean"."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One delivery, in the hands of its operator."""

    session: Session
    folder: Folder
    hands: Hands

    def standing(self) -> Standing:
        """Return where the delivery stands, after doing again what an interruption left open.

        :raises RecordsError: the records in the folder aren't a delivery's under its terms, or this operator didn't
            sign them.
        """
        self._settle()
        records = self.folder.records()
        for one in records:
            self._require_own(one)
        standing = _folded(self.folder, records)
        if standing.last.state in FINAL:
            self._finish(standing)
        return standing

    def receive(self) -> Standing:
        """Do steps 1 to 5, from wherever it was; the delivery waits for reviews then, or came to its end before.

        :raises IntakeRefusedError: it is refused, now and for good.
        :raises StrongroomError: something that says nothing about the delivery: no room, no log, a changed copy.
        """
        self._settle()
        if not self.folder.records():
            first = self.folder.terms()
            documents = (first.digest, *first.attachments)
            self._record(begin(first.delivery, first.model, self.session.clock.now(), documents=documents))
        standing = self.standing()
        terms = terms_of(self.folder, standing)
        while standing.last.state in _STEPS:
            try:
                standing = self._record(_STEPS[standing.last.state](self, standing, terms))
            except IntakeRefusedError as error:
                self.refuse(standing, error.rule)
                raise
        return standing

    def review(self, reviews: Sequence[Envelope]) -> Standing:
        """Do step 6, if it isn't done: enough people accept, and nobody denies.

        :raises IntakeRefusedError: somebody denies it: it is refused, now and for good.
        :raises PendingError: the delivery isn't there yet, or too few accept.
        """
        standing = self.standing()
        terms = terms_of(self.folder, standing)
        if standing.last.state not in {State.SCANNED, *_DONE}:
            raise PendingError(
                f"the delivery is `{standing.last.state.value}`: it waits for its checks",
                remedy="go on with it: strongroom intake receive",
                reason="intake-unchecked",
            )
        if standing.last.state is State.SCANNED:
            try:
                standing = self._record(self._reviewed(standing, terms, reviews))
            except IntakeRefusedError as error:
                self.refuse(standing, error.rule)
                raise
        if standing.last.state is State.REVIEWED:
            self._judge(standing)
        return standing

    def sealed(self, manifest: Digest) -> bool:
        """Record that the delivery is the version with this manifest, and end it; False if the log knows none such."""
        standing = self.standing()
        if standing.last.state is State.REVIEWED:
            try:
                standing = self._record(standing.step(State.SEALED, self._now(standing), documents=(manifest,)))
            except DeniedError as error:
                if error.reason != _NOT_REGISTERED:
                    raise
                return False
            self._finish(standing)
        return standing.last.state is State.SEALED

    def withdraw(self, sealed: Digest | None) -> Standing:
        """Give the delivery up. ``sealed`` is the manifest of what lies sealed in its folder, which may be registered.

        :raises WrongStateError: it is sealed, perhaps by an interrupted call whose record is made now; or refused.
        """
        if sealed is not None:
            self.sealed(sealed)
        return self.refuse(self.standing(), Rule.WITHDRAWN)

    def refuse(self, standing: Standing, rule: Rule) -> Standing:
        """Record a refusal, which is final, and destroy the copy's key.

        :raises WrongStateError: the delivery is sealed, or refused already.
        """
        refused = self._record(standing.refuse(rule, self._now(standing), tools=(GATE,)))
        self._finish(refused)
        return refused

    # --- steps --------------------------------------------------------------------------------------------------------

    def _hashed(self, standing: Standing, terms: Terms) -> Standing:
        listed, manifest = self.hands.take_in(terms)
        artifact = self.folder.keep(listed.to_bytes())
        return standing.step(State.HASHED, self._now(standing), artifact=artifact, documents=(manifest,), tools=(GATE,))

    def _signature_verified(self, standing: Standing, terms: Terms) -> Standing:
        if terms.signature is None:
            return standing.waive(State.SIGNATURE_VERIFIED, self._now(standing))
        signed = self.hands.verify(terms.signature, listed_in(self.folder, standing))
        report = self.folder.keep(encode({"v": 1, "mode": signed.mode.value, "signer": signed.signer}))
        documents = (terms.signature.bundle, report)
        return standing.step(State.SIGNATURE_VERIFIED, self._now(standing), documents=documents, tools=(GATE,))

    def _formats_checked(self, standing: Standing, _terms: Terms) -> Standing:
        with self.hands.opened(copy_manifest(standing)) as sources:
            report = self.folder.keep(encode(_report(self.hands.judge(sources))))
        return standing.step(State.FORMATS_CHECKED, self._now(standing), documents=(report,), tools=(GATE,))

    def _scanned(self, standing: Standing, terms: Terms) -> Standing:
        if not terms.rules.scanners:
            return standing.waive(State.SCANNED, self._now(standing))
        looked: set[Tool] = set()
        with self.hands.opened(copy_manifest(standing)) as sources:
            formats = checks(self.folder, standing)
            for scanner in terms.rules.scanners:
                for name in sorted(sources):
                    if formats[name][0] in scanner.formats:
                        self.hands.scan(scanner, name, sources[name])
                        looked.add(Tool(scanner.name, scanner.version))
        # Who was shown no file has said nothing of this delivery.
        tools = tuple(sorted(looked))
        return standing.step(State.SCANNED, self._now(standing), tools=tools)

    def _reviewed(self, standing: Standing, terms: Terms, reviews: Sequence[Envelope]) -> Standing:
        trust = self.session.refresh()
        roster, _policy = trust.require_documents()
        operator = self.session.wallet.identity.person
        reviewers: dict[PersonId, tuple[PublicKey, ...]] = {
            one.id: one.keys for one in roster.people if one.active and REVIEWER in one.roles and one.id != operator
        }
        wanted = review_of(terms, standing, operator, Decision.ACCEPT)
        accepted = check_reviews(reviews, wanted, reviewers, threshold=terms.rules.reviews)
        if not terms.rules.reviews:
            return standing.waive(State.REVIEWED, self._now(standing))
        named = [one for one in reviews if Review.parse(one.payload).reviewer in accepted]
        documents = {self.folder.keep(one.payload) for one in named}
        return standing.step(State.REVIEWED, self._now(standing), documents=tuple(sorted(documents, key=str)))

    # --- records ------------------------------------------------------------------------------------------------------

    def _record(self, standing: Standing) -> Standing:
        """Sign a standing's newest record, write it down, and have it recorded."""
        genesis = self.session.wallet.genesis().digest
        payload = IntakeRecord(genesis=genesis, record=standing.last).to_bytes()
        self.folder.propose(sign(INTAKE_RECORD_TYPE, payload, self.session.wallet.signer()))
        self._settle()
        return standing

    def _settle(self) -> None:
        envelope = self.folder.proposed()
        if envelope is None:
            return
        self._require_own(envelope)
        try:
            self.session.api.hand_in(StatementKind.INTAKE_RECORD, envelope)
        except (ConflictError, DeniedError) as error:
            # After any other error nobody knows whether it was recorded: it stays, and is handed in again.
            if error.reason != _KNOWN:
                self.folder.withdraw()
                raise
        self.folder.accept(envelope)

    def _require_own(self, envelope: Envelope) -> None:
        # Whoever can write to the folder can write a review or a waiver into it, and the gate would seal by that.
        try:
            verify(envelope, INTAKE_RECORD_TYPE, [self.session.wallet.identity.key], threshold=1)
        except SignatureError:
            raise RecordsError(
                "a record in the delivery's folder isn't signed by this wallet's person",
                remedy="use the wallet of who took the delivery in",
            ) from None

    def _judge(self, standing: Standing) -> None:
        self.folder.judge(Verdict.of(standing).signed(self.session.wallet.publishing_signer()))

    def _finish(self, standing: Standing) -> None:
        """Bring about what a final record means, as often as it takes: no key, no copy, a verdict.

        The keys first: a disk without room for a verdict must not keep them.
        """
        last = standing.last
        self.session.wallet.forget(last.delivery)
        # Of a sealing that began and never came to its end: what it had encrypted opens by this one.
        self.session.wallet.forget(unfinished_name(last.model, sealing_place(last.delivery)))
        self.folder.drop_copy()
        if last.state is State.QUARANTINED:
            self.folder.drop_sealed()
        self._judge(standing)

    def _now(self, standing: Standing) -> int:
        # A clock that was ahead and was put right must not hold a refusal up.
        return max(self.session.clock.now(), standing.last.at)


_STEPS: Final[Mapping[State, Callable[[Gate, Standing, Terms], Standing]]] = {
    State.RECEIVED: Gate._hashed,  # noqa: SLF001 - the gate's own steps, by the state that they begin in
    State.HASHED: Gate._signature_verified,  # noqa: SLF001
    State.SIGNATURE_VERIFIED: Gate._formats_checked,  # noqa: SLF001
    State.FORMATS_CHECKED: Gate._scanned,  # noqa: SLF001
}
_DONE: Final = frozenset({State.REVIEWED, *FINAL})


def checked(folder: Folder) -> Standing:
    """Return the standing that a folder's records lead to, under its terms: for people who look at it.

    Who signed the records isn't checked, and only the log says which one is the newest.

    :raises RecordsError: the records don't follow from each other, or are of other terms.
    """
    return _folded(folder, folder.records())


def _folded(folder: Folder, records: Sequence[Envelope]) -> Standing:
    said = [IntakeRecord.parse(one.payload) for one in records]
    standing = fold(one.record for one in said)
    if {one.genesis for one in said} != {terms_of(folder, standing).genesis}:
        raise RecordsError("the records are of another deployment than the terms")
    return standing


def terms_of(folder: Folder, standing: Standing) -> Terms:
    """Return the terms that a delivery's first record names.

    :raises RecordsError: those in the folder are others.
    """
    first, terms = standing.records[0], folder.terms()
    if (first.delivery, first.model) != (terms.delivery, terms.model) or first.documents[:1] != (terms.digest,):
        raise RecordsError("the terms aren't those that the first record names")
    return terms


def sealing_place(delivery: str) -> str:
    """Return by which place the wallet knows the sealing of a delivery, wherever its folder lies."""
    return f"intake/{delivery}"


def copy_manifest(standing: Standing) -> Digest:
    """Return the manifest digest of the encrypted copy, which the record `hashed` names.

    :raises NotFoundError: there is no copy yet.
    """
    for record in standing.records:
        if record.state is State.HASHED and record.documents:
            return record.documents[0]
    raise NotFoundError("the delivery has no encrypted copy yet", reason="intake-unchecked")


def listed_in(folder: Folder, standing: Standing) -> FileList:
    """Return the list of what was stored.

    :raises NotFoundError: there is none yet.
    """
    if standing.last.artifact is None:
        raise NotFoundError("the delivery has no list of files yet", reason="intake-unchecked")
    return FileList.parse(folder.document(standing.last.artifact))


def review_of(terms: Terms, standing: Standing, reviewer: PersonId, decision: Decision) -> Review:
    """Return the review of a delivery as it stands.

    :raises PendingError: it doesn't wait for one.
    """
    last = standing.last
    if last.state is not State.SCANNED or last.artifact is None:
        raise PendingError(f"the delivery is `{last.state.value}`, and waits for no review", reason="nothing-to-review")
    return Review(
        genesis=terms.genesis,
        delivery=last.delivery,
        reviewer=reviewer,
        artifact=last.artifact,
        records=last.digest,
        decision=decision,
    )


def checks(folder: Folder, standing: Standing) -> dict[str, tuple[Format, Json]]:
    """Return what the gate found of each file: its format, and facts; nothing before the formats are checked."""
    for record in standing.records:
        if record.state is State.FORMATS_CHECKED and record.documents:
            with Fields(decode(folder.document(record.documents[0]), max_bytes=_MAX_REPORT), "report") as fields:
                fields.constant("v", 1)
                return dict(fields.objects("files", _checked_file, most=MAX_FILES))
    return {}


def _checked_file(fields: Fields) -> tuple[str, tuple[Format, Json]]:
    name = fields.text("name", max_length=MAX_NAME)
    return name, (fields.parsed("format", Format), fields.value("facts"))


def _report(found: Mapping[str, FileVerdict]) -> dict[str, Json]:
    files: list[Json] = [
        {"name": name, "format": one.format.value, "facts": one.facts} for name, one in sorted(found.items())
    ]
    return {"v": 1, "files": files}
