"""Does each act in a log follow from what was logged before it? Judged entry by entry, from the log alone. Pure.

The keeper decides by what the log says; here a reader asks afterwards whether it did. So does the keeper's own journal
before it queues an entry: what its judges allowed by mistake it doesn't record, and so doesn't carry out. The ledger
refuses what can't follow (epochs, uses, versions, leases); what stands below goes further:

1 people      nobody asks, agrees, signs or receives while suspended, and nobody agrees with themselves
2 intent      what was handed over, and every control act, has its request, for that very action, once
3 agreement   a grant stands before the first use; where two others must always agree, two agreed before
4 bounds      no use beyond the grant's number or time, after a denial, or of a frozen model
5 standing    the version, documents, reference values, collateral and platform named are those in force; what a
              precaution asked for is said, and what a hold keeps isn't given up
6 order       the keeper's clock and the counters of security keys never go back; changes waited, and weren't stopped
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.access.invariants import ALWAYS_TWO, QUORUM_FLOOR
from strongroom.access.request import OPENS, STOPS, Action
from strongroom.attestation.bundle.format import EMPTY
from strongroom.audit.entries import Entry
from strongroom.audit.facts import Producer
from strongroom.core.clock import parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.intake.copies.register import OUT_OF_HANDS
from strongroom.release.documents import ADOPTED_EVENTS
from strongroom.release.lease import Sampling
from strongroom.release.ledger import Ledger
from strongroom.release.precautions import LIFTED

DECIDING_SECONDS: Final = 60
"""A use is decided before it is recorded, and no entry is dated before the one ahead of it."""
HANDS_OVER: Final[Mapping[EventName, frozenset[Action]]] = {
    EventName.RELEASED: OPENS,
    EventName.EXPORTED: frozenset({Action.EXPORT_PLAINTEXT}),
    EventName.DATA_KEY_CREATED: frozenset({Action.SEAL}),
}
CONTROLS: Final[Mapping[EventName, Action]] = {
    EventName.MODEL_FROZEN: Action.FREEZE,
    EventName.MODEL_RESUMED: Action.RESUME,
    EventName.GRANT_REVOKED: Action.REVOKE_GRANT,
    EventName.PLATFORM_REVOKED: Action.REVOKE_PLATFORM,
    EventName.MODEL_DESTROYED: Action.DESTROY,
    EventName.KEK_ROTATED: Action.ROTATE,
    EventName.PRECAUTION_LIFTED: Action.LIFT,
}
_SIGNERS: Final[Mapping[EventName, str]] = {
    EventName.VETTING_RECORDED: "officers",
    EventName.KEYS_ENROLLED: "officers",
    EventName.PERSON_ERASED: "officers",
    EventName.BREAK_GLASS_REVIEWED: "reviewers",
}
"""Statements by several people, and the fact that names them."""
_SPEAKERS: Final[Mapping[EventName, str]] = {
    EventName.REQUEST_CREATED: "requester",
    EventName.REQUEST_APPROVED: "person",
    EventName.REQUEST_DENIED: "person",
    EventName.CHANGE_STOPPED: "person",
    EventName.ACCESS_REVIEWED: "reviewer",
    EventName.DROP_KEY_RECORDED: "person",
    EventName.DROP_REVIEWED: "reviewer",
    EventName.INTAKE_RECORDED: "person",
    EventName.INTAKE_REVIEWED: "reviewer",
    EventName.COPY_RECORDED: "person",
    EventName.ASSESSMENT_RECORDED: "person",
    EventName.INCIDENT_RECORDED: "person",
    EventName.PRECAUTION_TAKEN: "person",
    EventName.ESCROW_ANSWERED: "custodian",
    EventName.GRANT_ISSUED: "requester",
}


class UnfoundedError(TamperedError):
    """An act in the log doesn't follow from what was logged before it. ``index`` is its entry."""

    code = "act-unfounded"

    def __init__(self, message: str, *, index: int, reason: str) -> None:
        super().__init__(
            message, reason=reason, remedy="treat this as an incident: the keeper's judges allowed what they must not"
        )
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: where, a stable code, and words."""

    index: int
    code: str
    message: str

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {"index": self.index, "code": self.code, "message": self.message}

    def error(self) -> UnfoundedError:
        """Return it as the error that it is."""
        return UnfoundedError(f"entry {self.index}: {self.message}", index=self.index, reason=self.code)


@dataclass(slots=True)
class Chronicle:
    """Takes a verified log's entries in order, and notes every act that doesn't follow from those before.

    The entries' form and signatures, and that they are the log's, are for the caller to check.
    """

    ledger: Ledger = field(default_factory=Ledger)
    findings: list[Finding] = field(default_factory=list)
    disputes: list[tuple[int, str]] = field(default_factory=list)
    """What somebody states against which the log has no more than its own times: an entry, and words."""
    broken: bool = False
    """The ledger refused an entry: from there on nothing can be judged any more."""

    def take(self, index: int, entry: Entry) -> None:
        """Judge the next entry by those before it, and fold it in."""
        if self.broken:
            return
        for code, message in self._wrong(entry):
            self.findings.append(Finding(index=index, code=code, message=message))
        self.disputes += ((index, message) for message in _told_late(entry))
        try:
            self.ledger.apply(index, entry)
        except StrongroomError as error:
            self.findings.append(Finding(index=index, code=error.reason, message=error.message))
            self.broken = True

    def require(self, index: int, entry: Entry) -> None:
        """Return when the next entry follows from those before; nothing is folded in.

        :raises UnfoundedError: it doesn't.
        """
        for code, message in self._wrong(entry):
            raise Finding(index=index, code=code, message=message).error()

    def _wrong(self, entry: Entry) -> Iterator[tuple[str, str]]:
        if entry.by is Producer.KEEPER and entry.at < self.ledger.latest:
            yield "time-went-back", "the keeper dated it before the entry ahead of it"
        yield from self._people(entry)
        judge = _JUDGES.get(entry.event)
        if judge is not None:
            yield from judge(self, entry)
        if entry.event in _ADOPTS:
            yield from self._adopted(entry)

    # --- 1 people -----------------------------------------------------------------------------------------------------

    def _people(self, entry: Entry) -> Iterator[tuple[str, str]]:
        named = [entry.text(fact)] if (fact := _SPEAKERS.get(entry.event)) else []
        if signers := _SIGNERS.get(entry.event):
            named += entry.texts(signers)
            if entry.event is not EventName.BREAK_GLASS_REVIEWED and entry.text("person") in named:
                yield "act-for-oneself", f"`{entry.text('person')}` signed a statement about themselves"
            # A vetting record that names nobody was signed by the root quorum; nothing else may name nobody.
            by_roots = entry.event is EventName.VETTING_RECORDED and not named
            if not by_roots and len(set(named)) < QUORUM_FLOOR:
                yield "act-by-one", f"{QUORUM_FLOOR} different people must sign it"
        yield from self._present(PersonId(name) for name in named)

    def _present(self, people: Iterator[PersonId]) -> Iterator[tuple[str, str]]:
        for person in people:
            if person in self.ledger.suspended:
                yield "act-by-suspended-person", f"`{person}` was suspended before, and not vetted anew since"

    # --- 2 intent, 3 agreement, 4 bounds, 5 standing -----------------------------------------------------------------

    def request_created(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A request is recorded once."""
        if entry.digest("request") in self.ledger.created:
            yield "request-twice", "the request was recorded before"

    def approved(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """An approval is of a recorded request, by somebody else, with a counter that rises."""
        yield from self.denied(entry)
        created = self.ledger.created.get(entry.digest("request"))
        if created is not None and created.requester == entry.text("person"):
            yield "act-for-oneself", f"`{created.requester}` approved their own request"
        if entry.digest("approval") in self.ledger.voices:
            yield "voice-twice", "the approval was recorded before"

    def denied(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A denial is of a recorded request, with a counter that rises."""
        if entry.digest("request") not in self.ledger.created:
            yield "act-without-request", "its request wasn't recorded before"
        counter, seen = entry.integer("counter"), self.ledger.counters.get(entry.text("key"), 0)
        if (counter or seen) and counter <= seen:
            yield "counter-went-back", f"key `{entry.text('key')}` showed counter {counter} after {seen}"

    def refused(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """Only a recorded request's refusal is recorded."""
        if entry.digest("request") not in self.ledger.created:
            yield "act-without-request", "its request wasn't recorded before"

    def granted(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A grant is what its request asked for."""
        request = entry.digest("request")
        created = self.ledger.created.get(request)
        told = (entry.text("requester"), entry.text("action"), entry.text("model"))
        if created is not None and told != (created.requester, created.action, created.model):
            yield "grant-of-another-kind", "the grant isn't for what was asked"
        yield from self._ended(request)
        yield from self._agreed(request, entry.text("action"), entry)

    def handed_over(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A data key was handed over, to an enclave or a person, or made for a publisher."""
        request = entry.digest("request")
        yield from self._intent(request, entry, HANDS_OVER[entry.event])
        created = self.ledger.created.get(request)
        if created is not None:
            yield from self._present(iter((created.requester,)))
        yield from self._bounds(request, entry)
        if entry.event is EventName.DATA_KEY_CREATED:
            current = self.ledger.current(ModelId(entry.text("model")))
            if entry.integer("version") != (current.version if current else 0) + 1:
                yield "act-on-other-version", "the data key isn't for the version that comes next"
            return
        yield from self._documents(entry)
        if created is not None:
            yield from self._agreed(request, created.action, entry)
        if entry.event is EventName.RELEASED:
            yield from self._proved(entry)
            yield from self._owes(ModelId(entry.text("model")), entry)

    def _owes(self, model: ModelId, entry: Entry) -> Iterator[tuple[str, str]]:
        owed, said = self.ledger.precautions.sampling(model, entry.at), entry.text("sampling")
        # More than is owed is no lie: one that ended in that very second was judged by just before.
        if said not in {owed.value, Sampling.WHOLE.value}:
            yield "sampling-understated", f"it has `{said}` of the answers replayed, where `{owed.value}` was asked for"

    def redelivered(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A key is delivered again to the recipient of that very use, and to nobody else."""
        uses = self.ledger.uses.get(entry.digest("request"), [])
        number = entry.integer("use")
        use = uses[number - 1] if 0 < number <= len(uses) else None
        if use is None or (use.index, use.recipient) != (entry.integer("released"), entry.digest("recipient")):
            yield "redelivery-of-another", "no such use was recorded for this recipient"
        yield from self._ended(entry.digest("request"))
        yield from self.lease(entry)

    def lease(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """What an enclave goes on with owes what a precaution asks for then, not what its release owed."""
        released = self.ledger.released.get((entry.digest("request"), entry.integer("use")))
        if released is not None:
            yield from self._owes(released.model, entry)

    def registered(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A version is registered under the data key that was made for it, by who asked for that key."""
        made = self.ledger.data_keys.get(entry.text("data_key"))
        told = (entry.text("model"), entry.integer("version"), entry.digest("request"), entry.text("publisher"))
        if made is None or told != (made.model, made.version, made.request, made.requester):
            yield "act-without-intent", "no data key was made for this version, under this request, for this publisher"
        current = self.ledger.current(ModelId(entry.text("model")))
        before = entry.facts["predecessor"]
        if before != (str(current.manifest) if current else None):
            yield "act-on-other-version", "its predecessor isn't the version that was current"

    def controlled(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A control act spends its request, which asked for that very act."""
        request, action = entry.digest("request"), CONTROLS[entry.event]
        created = self.ledger.created.get(request)
        yield from self._intent(request, entry, frozenset({action}))
        if created is not None:
            yield from self._present(iter((created.requester,)))
        # One request may revoke several platforms, an entry each.
        if action is not Action.REVOKE_PLATFORM and self.ledger.times_used(request):
            yield "act-beyond-uses", "its request was carried out before"
        yield from self._ended(request)
        yield from self._agreed(request, action, entry)
        if action is Action.LIFT:
            yield from self._lifted(entry)
        if action is Action.DESTROY:
            yield from self._waited(request, entry)

    def _waited(self, request: Digest, entry: Entry) -> Iterator[tuple[str, str]]:
        grant, model = self.ledger.grants.get(request), ModelId(entry.text("model"))
        if grant is None:
            yield "act-without-grant", "no grant was issued before: nobody could have seen it coming"
        elif entry.at > grant.expires + DECIDING_SECONDS:
            yield "act-after-expiry", "the grant was over"
        elif model in self.ledger.frozen and self.ledger.frozen_at.get(model, grant.at) >= grant.at:
            yield "act-on-frozen-model", f"model `{model}` was frozen after it was agreed on"
        if self.ledger.precautions.hold(model) is not None:
            yield "act-against-hold", f"a hold stood on model `{model}`"

    def _lifted(self, entry: Entry) -> Iterator[tuple[str, str]]:
        found = self.ledger.precautions.named(entry.digest("precaution"), entry.at)
        if found is None or found.kind not in LIFTED:
            yield "lift-of-nothing", "no precaution of this name stood that people lift"
        elif found.subject not in {None, entry.text("model")}:
            yield "act-of-another-kind", f"the precaution was about `{found.subject}`"

    def said_once(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """A statement takes a precaution, or says how far an incident has come, once."""
        if entry.digest("statement") in self.ledger.said:
            yield "statement-twice", "the statement was recorded before, and what it said may be over since"

    def copy_recorded(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """While a hold stands, no copy of its model is destroyed or given back; what ended before names the hold."""
        model, made = ModelId(entry.text("model")), parse_instant(entry.text("made"))
        precautions, ends = self.ledger.precautions, entry.text("state") in OUT_OF_HANDS
        hold, stands = precautions.hold_at(model, made), precautions.hold(model)
        if ends and hold is not None:
            yield "act-against-hold", f"hold `{hold.name}` stood on model `{model}`"
        elif entry.facts["hold"] != (str(stands.name) if ends and stands is not None else None):
            yield "hold-not-told", "it doesn't name the hold that stood when this was said, or names another"

    def kek_retired(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """While a hold stands on a model, no data key goes with a KEK of it."""
        model = ModelId(entry.text("model"))
        hold = self.ledger.precautions.hold(model)
        if hold is not None and (entry.texts("lost") or self.ledger.keys.outrun.get(model)):
            yield "act-against-hold", f"hold `{hold.name}` stood on model `{model}`"

    def destroyed_evidence(self, _entry: Entry) -> Iterator[tuple[str, str]]:
        """While a hold stands, no shard is pruned, nobody erased, no old share destroyed: they tell of every model."""
        hold = self.ledger.precautions.any_hold()
        if hold is not None:
            yield "act-against-hold", f"hold `{hold.name}` stood"

    def _intent(self, request: Digest, entry: Entry, actions: frozenset[Action]) -> Iterator[tuple[str, str]]:
        created = self.ledger.created.get(request)
        if created is None:
            yield "act-without-request", "its request wasn't recorded before"
        elif created.action not in actions or ("model" in entry.facts and entry.text("model") != created.model):
            yield "act-of-another-kind", f"its request was to `{created.action}` model `{created.model}`"

    def _agreed(self, request: Digest, action: str, entry: Entry) -> Iterator[tuple[str, str]]:
        said = self.ledger.approvals.get(request, {})
        agreed = {who for who in said if who not in self.ledger.suspended}
        named = {PersonId(name) for name in entry.texts("approvers")} if "approvers" in entry.facts else agreed
        created = self.ledger.created.get(request)
        if created is not None and created.requester in named:
            yield "act-for-oneself", f"`{created.requester}` is named among those who agreed"
        counted = named & agreed - ({created.requester} if created else set())
        if named and not counted:
            yield "act-without-approval", "nobody whom it names had agreed before"
        if action in ALWAYS_TWO and len(counted) < QUORUM_FLOOR:
            yield "act-without-approval", f"{len(counted)} others had agreed before; `{action}` takes two"
        elif created is not None and action not in STOPS:
            # The log doesn't say how many the rule asked for: two where it always does, and one more.
            least = 1 + (QUORUM_FLOOR if action in ALWAYS_TWO else 0)
            if self.ledger.precautions.approver(created.requester, entry.at) and len(counted) < least:
                yield "act-without-approval", f"a precaution about `{created.requester}` asked for one approver more"

    def _bounds(self, request: Digest, entry: Entry) -> Iterator[tuple[str, str]]:
        grant = self.ledger.grants.get(request)
        if grant is None:
            yield "act-without-grant", "no grant was issued before"
        else:
            if entry.integer("use") > grant.uses:
                yield "act-beyond-uses", f"the grant is for {grant.uses} uses"
            if entry.at > grant.expires + DECIDING_SECONDS:
                yield "act-after-expiry", "the grant was over"
        yield from self._ended(request)
        if entry.event is not EventName.DATA_KEY_CREATED and entry.text("model") in self.ledger.frozen:
            yield "act-on-frozen-model", f"model `{entry.text('model')}` was frozen"

    def _ended(self, request: Digest) -> Iterator[tuple[str, str]]:
        ledger = self.ledger
        if request in ledger.denied or request in ledger.revoked or request in ledger.fallen:
            yield "act-after-denial", "the request was denied or revoked, or fell with a suspension"

    def _documents(self, entry: Entry) -> Iterator[tuple[str, str]]:
        current = self.ledger.current(ModelId(entry.text("model")))
        told = (entry.integer("version"), entry.digest("manifest"), entry.text("data_key"))
        if current is None or told != (current.version, current.manifest, current.data_key):
            yield "act-on-other-version", "the version isn't the current one"
        for name in ("roster", "policy"):
            in_force = self.ledger.roster if name == "roster" else self.ledger.policy
            if in_force is None or in_force.document != entry.digest(name):
                yield "act-under-other-documents", f"the {name} named isn't the one in force"

    def _proved(self, entry: Entry) -> Iterator[tuple[str, str]]:
        platform, values = PlatformId(entry.text("platform")), self.ledger.reference_values
        if platform not in self.ledger.platforms or platform in self.ledger.revoked_platforms:
            yield "act-on-unenrolled-platform", f"platform `{platform}` wasn't enrolled, or was revoked"
        if values is None or values.document != entry.digest("reference_values"):
            yield "act-under-other-documents", "the reference values named aren't those in force"
        # Without any, where the keeper lost it: items are checked when they are used, so none proves less, never more.
        known = {self.ledger.collateral, EMPTY.digest}
        if self.ledger.collateral is not None and entry.digest("collateral") not in known:
            yield "act-under-other-documents", "the collateral named isn't the one in force"

    # --- 6 order ------------------------------------------------------------------------------------------------------

    def _adopted(self, entry: Entry) -> Iterator[tuple[str, str]]:
        document = entry.digest("document")
        proposal = self.ledger.proposals.get(document)
        if proposal is not None and entry.at < proposal.effective:
            yield "change-before-its-time", "the document came into force before its time of waiting was over"
        if document in self.ledger.stopped:
            yield "change-was-stopped", "an approver had stopped the document"


def _told_late(entry: Entry) -> Iterator[str]:
    if entry.event is EventName.COPY_RECORDED and entry.facts["hold"] is not None:
        yield (
            f"`{entry.text('person')}` said while hold `{entry.text('hold')}` stood that copy `{entry.text('copy')}` "
            f"of `{entry.text('model')}` was `{entry.text('state')}` at {entry.text('made')}, before that hold began"
        )


_ADOPTS: Final = frozenset(ADOPTED_EVENTS.values())
_JUDGES: Final[Mapping[EventName, Callable[[Chronicle, Entry], Iterator[tuple[str, str]]]]] = {
    EventName.REQUEST_CREATED: Chronicle.request_created,
    EventName.REQUEST_APPROVED: Chronicle.approved,
    EventName.REQUEST_DENIED: Chronicle.denied,
    EventName.REFUSED: Chronicle.refused,
    EventName.GRANT_ISSUED: Chronicle.granted,
    EventName.PRECAUTION_TAKEN: Chronicle.said_once,
    EventName.INCIDENT_RECORDED: Chronicle.said_once,
    EventName.PERSON_ERASED: Chronicle.destroyed_evidence,
    EventName.SHARD_PRUNED: Chronicle.destroyed_evidence,
    EventName.ESCROW_ANSWERED: Chronicle.destroyed_evidence,
    EventName.COPY_RECORDED: Chronicle.copy_recorded,
    EventName.KEK_RETIRED: Chronicle.kek_retired,
    EventName.VERSION_REGISTERED: Chronicle.registered,
    EventName.REDELIVERED: Chronicle.redelivered,
    EventName.LEASE_ATTESTED: Chronicle.lease,
    **dict.fromkeys(HANDS_OVER, Chronicle.handed_over),
    **dict.fromkeys(CONTROLS, Chronicle.controlled),
}
