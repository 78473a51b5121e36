"""What people do, from first look to last record, over ports: the wallet, the broker's API, a clock.

Everything begins with :meth:`Session.refresh`; what it returns is the only view of the deployment that is acted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.access.invariants import Reason
from strongroom.access.request import Action, Request
from strongroom.client import requests
from strongroom.client.api import NOTICE_SECONDS, BrokerApi
from strongroom.client.followed import FollowedLog
from strongroom.client.render import Line, Standings, render
from strongroom.client.told import Adopted, Explanation, Recorded, RequestFile
from strongroom.client.trust import StateMismatchError, Trust, verify_state
from strongroom.client.wallet import MOST_LOOKS, Wallet, advance, outrun
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, NotFoundError, PendingError, UsageError
from strongroom.core.ids import PlatformId
from strongroom.core.signature import Signer
from strongroom.release.documents import PAYLOAD_TYPES, DocumentKind

MIN_PREFIX: Final = 6
WAITABLE: Final = frozenset(
    {
        Reason.QUORUM_NOT_MET,
        Reason.ONE_PERSON_TWICE,
        Reason.POLICY_REFUSES,
        # Whatever keeps one person's approval from counting, somebody else's may be in order.
        *(reason for reason in Reason if reason.value.startswith("approver-")),
        Reason.COOLING_OFF,
        Reason.NOT_YET_VALID,
    }
)
"""Refusals that approvals or time can mend. Cedar refuses whatever the invariants refuse, so it says nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A request that was fetched, checked to be its requester's, and laid out for a person."""

    trust: Trust
    envelope: Envelope
    request: Request
    file: RequestFile
    lines: tuple[Line, ...]

    @property
    def digest(self) -> Digest:
        """The request's name."""
        return self.envelope.digest


class Session:
    """One person's dealings with one deployment."""

    def __init__(self, api: BrokerApi, wallet: Wallet, clock: Clock) -> None:
        self.api = api
        self.wallet = wallet
        self.clock = clock
        self._log: FollowedLog | None = None

    @property
    def log(self) -> FollowedLog:
        """The log of the deployment that the wallet is bound to."""
        if self._log is None:
            self._log = FollowedLog(self.wallet.genesis(), self.api.seams)
        return self._log

    def refresh(self) -> Trust:
        """Fetch the state, check it against the wallet, and remember it.

        :raises TamperedError: what is shown is forged, rolled back or forked (:mod:`strongroom.client.trust`).
        :raises UnavailableError: others saw more each time.
        """
        for _ in range(MOST_LOOKS):
            before = self.wallet.seen()
            trust = verify_state(self.log, before, self.api.state(), self.api.consistency)
            # Before anything is signed: a signature that names this log head must not outlive the memory of it.
            if advance(self.wallet, before, trust.seen):
                return trust
        raise outrun()

    def find(self, text: str) -> Digest:
        """Return the request that ``text`` names: a whole digest, or enough of its hex to be the only one.

        :raises NotFoundError: none. :raises UsageError: several, or too little text.
        """
        hexed = text.removeprefix("sha256:")
        if len(hexed) == 64:
            return Digest.parse(f"sha256:{hexed}")
        if len(hexed) < MIN_PREFIX:
            raise UsageError(f"give at least {MIN_PREFIX} characters of the request's digest")
        found = {
            item.digest for item in self.api.requests(everything=True) if item.digest.value.hex().startswith(hexed)
        }
        if not found:
            raise NotFoundError("no request's digest begins like that", remedy="list them: strongroom request ls --all")
        if len(found) > 1:
            raise UsageError(f"{len(found)} requests' digests begin like that", remedy="give more characters")
        return found.pop()

    def review(self, digest: Digest) -> Review:
        """Fetch a request, check whose it is, and lay it out."""
        trust = self.refresh()
        file = self.api.request(digest)
        request = requests.read_request(file.request, trust, wanted=digest)
        lines = render(file.request.payload, trust, self.standings(), now=self.clock.now())
        return Review(trust=trust, envelope=file.request, request=request, file=file, lines=lines)

    def standings(self) -> Standings:
        """Return who is vetted how today, as the keeper says."""
        people, _caps = self.api.people()
        return {one.person: one for one in people}

    def check_approvable(self, review: Review) -> None:
        """Check an approval before anybody is asked for it; raises as :func:`requests.check_approvable` does."""
        identity = self.wallet.identity
        requests.check_approvable(
            review.envelope,
            review.trust,
            person=identity.person,
            key=identity.key,
            now=self.clock.now(),
            prove=self.api.consistency,
        )

    def approve(self, review: Review) -> Recorded:
        """Sign an approval of what was reviewed and hand it in."""
        return self.approve_signed(review, self.wallet.signer())

    def approve_signed(self, review: Review, signer: Signer) -> Recorded:
        """Hand in an approval by ``signer``, which may have signed elsewhere."""
        approval = requests.approve(
            review.envelope,
            review.trust,
            signer,
            person=self.wallet.identity.person,
            now=self.clock.now(),
            prove=self.api.consistency,
        )
        return self._witnessed(self.api.approve(approval))

    def deny(self, review: Review) -> Recorded:
        """Sign a denial of what was reviewed and hand it in."""
        return self.deny_signed(review, self.wallet.signer())

    def deny_signed(self, review: Review, signer: Signer) -> Recorded:
        """Hand in a denial by ``signer``, which may have signed elsewhere."""
        denial = requests.deny(review.envelope, review.trust, signer, person=self.wallet.identity.person)
        return self._witnessed(self.api.deny(denial))

    def submit(self, request: Request, trust: Trust) -> tuple[Envelope, Recorded]:
        """Sign a request and have it recorded."""
        return self.submit_signed(request, trust, self.wallet.signer())

    def submit_signed(self, request: Request, trust: Trust, signer: Signer) -> tuple[Envelope, Recorded]:
        """Have a request by ``signer`` recorded, which may have signed elsewhere."""
        envelope = requests.sign_request(request, signer, trust)
        return envelope, self._witnessed(self.api.submit(envelope))

    def approvals_needed(self, request: Request, trust: Trust) -> int:
        """Return how many people the rule wants besides the requester."""
        _roster, policy = trust.require_documents()
        rule = policy.rule(request.action, policy.terms(request.model).level)
        return rule.quorum

    def control(self, digest: Digest, *allowed: Action) -> Recorded:
        """Carry out a recorded freeze, resume or revocation.

        :raises UsageError: the request is for another action.
        :raises PendingError: approvals are missing.
        """
        review = self.review(digest)
        if review.request.action not in allowed:
            raise UsageError(f"that request is for `{review.request.action.value}`")
        try:
            return self._witnessed(self.api.control(digest))
        except DeniedError as error:
            if error.reason != Reason.QUORUM_NOT_MET:
                raise
            raise PendingError(error.message, reason=Reason.QUORUM_NOT_MET.value, remedy=error.remedy) from None

    def adopt(self, kind: DocumentKind, envelope: Envelope) -> Adopted:
        """Hand in a document that the root quorum signed; says whether it is in force or waits.

        :raises SignatureError: too few root keys signed; nothing is sent then.
        """
        self.wallet.genesis().verify_root(envelope, PAYLOAD_TYPES[kind])
        return self.api.adopt(kind, envelope)

    def platform(self, texts: tuple[str, ...]) -> tuple[PlatformId, ...]:
        """Return the enrolled platforms that ``texts`` name, whole or by the beginning of their ids.

        With none named, the only enrolled one.

        :raises NotFoundError: none fits. :raises UsageError: several fit.
        """
        records = requests.known_platforms(self.wallet.genesis(), self.api.platforms())
        known = [record.platform for record in records]
        if not texts:
            if len(known) == 1:
                return (known[0],)
            if not known:
                raise NotFoundError("no platform is enrolled", remedy="enrol one: strongroom enclave enrol")
            raise UsageError(f"{len(known)} platforms are enrolled", remedy="name the ones meant with --platform")
        chosen = []
        for text in texts:
            fitting = [name for name in known if name == text or name.removeprefix("tpm-").startswith(text)]
            fitting = fitting or [name for name in known if name.startswith(text)]
            if len(fitting) != 1:
                kind = UsageError if fitting else NotFoundError
                raise kind(f"{len(fitting)} enrolled platforms begin with `{text[:68]}`")
            chosen.append(fitting[0])
        return tuple(dict.fromkeys(chosen))

    def wait_for_approvals(self, request: Request, *, told: Callable[[str], None]) -> None:
        """Ask the keeper whenever something is recorded about the request, until it would be allowed.

        :param told: what is still missing, each time it changes.
        :raises DeniedError: refused for another reason than missing approvals.
        :raises PendingError: the request expired before enough people agreed.
        """
        before, news = "", False
        place = self.api.notices().after
        while True:
            explanation = self.api.explain(request.digest)
            if explanation.allowed:
                return
            refusals = dict(refusals_of(explanation))
            awaited = (Reason.QUORUM_NOT_MET, Reason.COOLING_OFF, Reason.NOT_YET_VALID)
            remedy = next((refusals[reason] for reason in awaited if reason in refusals), "")
            final = next((reason for reason in refusals if reason not in WAITABLE), None)
            if final == Reason.EXPIRED:
                raise PendingError("the request expired before enough people agreed", remedy="make a new request")
            if final is not None or not remedy:
                reason = final or next(iter(refusals), "refused")
                raise DeniedError("the request is refused", reason=reason, remedy=refusals.get(reason, ""))
            if remedy != before:
                told(remedy)
                before = remedy
            # A new roster or policy gives no notice, so this doesn't wait for one alone. And the log has an approval a
            # moment before the broker has it stored: what was missed by that much is asked for again soon.
            wait = 1 if news else max(1, min(NOTICE_SECONDS, request.expires - self.clock.now()))
            page = self.api.notices(place, wait=wait, request=request.digest)
            news, place = bool(page.notices), page.after

    def _witnessed(self, recorded: Recorded) -> Recorded:
        if recorded.index >= self.log.head(recorded.checkpoint).size:
            raise StateMismatchError(
                "the checkpoint doesn't cover the record it came with", remedy="see whether it was recorded: audit ls"
            )
        return recorded


def refusals_of(explanation: Explanation) -> tuple[tuple[str, str], ...]:
    """Return every reason of a refusal: its code, and what would pass."""
    failed = tuple((check.reason, check.remedy) for check in explanation.checks if not check.passed)
    return (*failed, *explanation.others)
