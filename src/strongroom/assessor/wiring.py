"""Where the collectors are put together: a session, this host, the places that were named, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.assessor.adapters.broker_tls import broker_look
from strongroom.assessor.adapters.host import Host
from strongroom.assessor.adapters.host_looks import host_looks
from strongroom.assessor.adapters.places import place_looks
from strongroom.assessor.collecting import Look, observe
from strongroom.assessor.deployment import DeploymentSeen, PlatformSeen, checked_standings, looks
from strongroom.assessor.logged import LogFold, WitnessesSeen, broken_log
from strongroom.assessor.proofs import attack_looks, pack_look, plan_look
from strongroom.assurance.assessment import Assessment, assess
from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.findings import Finding
from strongroom.assurance.judging import judge
from strongroom.assurance.levels import gaps
from strongroom.assurance.observations import Observation
from strongroom.assurance.plan import SecurityPlan
from strongroom.assurance.statements import ATTESTOR, Attested
from strongroom.assurance.thresholds import Thresholds
from strongroom.attestation.isolation import IsolationClass
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.reading.growth import Place, grow
from strongroom.audit.reading.view import LogView, judged
from strongroom.audit.tiles import COSIGNED
from strongroom.client.log_view import BrokerLog
from strongroom.client.requests import known_platforms
from strongroom.client.service import Session
from strongroom.client.state import CapUse, PersonStanding
from strongroom.client.trust import Trust
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import StrongroomError, TamperedError
from strongroom.core.extras import MissingExtraError
from strongroom.core.ids import KeyId, PersonId
from strongroom.core.signature import PublicKey
from strongroom.detection.cases import failures
from strongroom.detection.wiring import cases_of, linear_regex, shipped_pack, shipped_rules
from strongroom.enclave.adapters.host_facts import look as look_at_host
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel
from strongroom.release.witnesses import quorum_seen, witness_terms


@dataclass(frozen=True, slots=True)
class BrokerPlace:
    """Where the broker is, and what an honest caller shows it."""

    url: str
    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is looked at besides the deployment itself.

    :ivar home: the deployment's folder where it is on this machine; None: neither its host nor its folder is looked at.
    :ivar sealed: sealed directories. ``searched``: folders searched for weights in the clear.
    :ivar more: looks that only the caller can make, once the log was read.
    """

    broker: BrokerPlace | None = None
    home: Path | None = None
    sealed: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()
    more: Callable[[LogFold], Iterable[Look]] = lambda _log: ()
    plan: SecurityPlan | None = None
    attacks: AttackRun | None = None


@dataclass(slots=True)
class Known:
    """What a session came to know: who is who, and the log."""

    trust: Trust
    standings: tuple[PersonStanding, ...] = ()
    caps: tuple[CapUse, ...] = ()
    log: LogFold = field(default_factory=LogFold)
    log_root: Digest | None = None
    broken: TamperedError | None = None
    """Why the log didn't verify."""

    def attestors(self, now: Instant) -> Mapping[KeyId, tuple[PersonId, PublicKey]]:
        """Return the keys of those whose statements count today: active, vetted people with the role.

        A log that doesn't verify vouches for nobody.
        """
        if self.trust.roster is None or self.broken is not None:
            return {}
        cleared = {one.person for one in self.standings if one.cleared(now) and not one.suspended}
        return {
            key.key_id: (person.id, key)
            for person in self.trust.roster.people
            if ATTESTOR in person.roles and person.active and person.id in cleared
            for key in person.keys
        }


def know(session: Session) -> Known:
    """Refresh the session's view of the deployment, and read the whole log, verified.

    One that doesn't verify is a finding, and no reason to stop looking.

    :raises TamperedError: what is shown is forged, rolled back or forked.
    """
    known = Known(trust=session.refresh())
    try:
        _read(BrokerLog(session, time.sleep), known)
    except TamperedError as error:
        known.broken = error
    people, known.caps = session.api.people()
    known.standings = checked_standings(people, known.trust.roster, known.log.chronicle.ledger)
    return known


def assess_deployment(
    session: Session,
    known: Known,
    scope: Scope,
    statements: Iterable[Attested],
    catalogue: Catalogue,
    *,
    goal: SecurityLevel,
    limits: Thresholds,
    version: str,
) -> Assessment:
    """Run every collector, and judge what they saw.

    :raises UnavailableError: the deployment doesn't answer.
    """
    now, words = session.clock.now(), tuple(statements)
    seen = [*_looks(session, known, scope, catalogue, now, version)]
    size = known.log.size or None

    def observed(found: Iterable[Look]) -> list[Observation]:
        return [observe(one, limits, now, log_index=size) for one in found]

    observations = observed(seen)
    open_ = _open(scope, observations, words, catalogue, limits, now)
    observations += observed([plan_look(scope.plan, open_, now)])
    trust = known.trust
    return assess(
        observations,
        words,
        catalogue,
        genesis=trust.genesis.digest,
        deployment=trust.genesis.deployment,
        goal=goal,
        limits=limits,
        version=version,
        now=now,
        log=None if known.log_root is None else (known.log.size, known.log_root),
        attacks=scope.attacks,
    )


def _open(
    scope: Scope,
    observations: list[Observation],
    words: tuple[Attested, ...],
    catalogue: Catalogue,
    limits: Thresholds,
    now: Instant,
) -> tuple[Finding, ...]:
    """Return what is open up to the plan's own goal, before the plan itself is looked at."""
    if scope.plan is None:
        return ()
    return gaps(judge(observations, words, catalogue, limits=limits, now=now), catalogue, scope.plan.goal)


def _looks(
    session: Session, known: Known, scope: Scope, catalogue: Catalogue, now: Instant, version: str
) -> Iterator[Look]:
    # The host's package manager takes seconds to plan; the deployment is read meanwhile.
    with ThreadPoolExecutor(1) as aside:
        host = None if scope.home is None else aside.submit(_host(scope.home))
        yield from _log(known, scope.home, now)
        yield from looks(_deployment(session, known), now)
        yield _broker(scope.broker)
        yield from place_looks(scope.sealed, scope.searched, known.log.manifests)
        yield _pack(catalogue)
        yield from attack_looks(scope.attacks, now, version=version)
        yield from scope.more(known.log)
        if host is not None:
            yield from host.result()


def _broker(at: BrokerPlace | None) -> Look:
    if at is None:
        return Look(collector="network.broker", missing="the wallet has no certificate to call with")
    return broker_look(at.url, authority=at.authority, certificate=at.certificate, key=at.key)


def _host(home: Path) -> Callable[[], list[Look]]:
    # Protections are tried in forked children: here, before there is a second thread.
    synchronised = look_at_host(home).clock_synchronised
    host = Host.this(home, lambda: synchronised)
    return lambda: list(host_looks(host))


def _deployment(session: Session, known: Known) -> DeploymentSeen:
    trust, now = known.trust, session.clock.now()
    ledger = known.log.chronicle.ledger
    records = known_platforms(trust.genesis, session.api.platforms())
    kept_back = ledger.platforms.keys() - {record.platform for record in records}
    values = trust.reference_values
    return DeploymentSeen(
        root_holders=len(trust.genesis.root_keys),
        root_threshold=trust.genesis.root_threshold,
        policy=trust.policy,
        roster=trust.roster,
        egress=trust.egress,
        reference=values,
        standings=known.standings,
        caps=known.caps,
        grants=session.api.grants(),
        keys=session.api.keys(),
        platforms=tuple(
            PlatformSeen(
                platform=record.platform,
                isolation=record.isolation,
                custody=values is not None and values.in_custody(record.platform, now),
            )
            for record in records
            if record.platform not in ledger.revoked_platforms
        )
        # Whatever the log has and the deployment doesn't show is the weakest that it could be.
        + tuple(
            PlatformSeen(platform=name, isolation=IsolationClass.NONE, custody=False)
            for name in sorted(kept_back - ledger.revoked_platforms)
        ),
    )


def _log(known: Known, home: Path | None, now: Instant) -> Iterator[Look]:
    if known.broken is not None:
        yield broken_log(known.broken)
    else:
        yield from known.log.looks(_witnesses(known, home, now), now)


def _read(view: LogView, known: Known) -> None:
    head = view.head()
    frontier, base = Frontier(), -1
    for after, entries in grow(view, Place.start(head.origin), head):
        for index, data in enumerate(entries, after.size - len(entries)):
            begins = view.extent(index).base
            if begins != base:
                frontier, base = Frontier(), begins
            frontier.append(leaf_hash(data))
            known.log.take(index, judged(view, index, data), frontier.root())
    known.log_root = Digest(DigestAlgorithm.SHA256, head.root)


def _witnesses(known: Known, home: Path | None, now: Instant) -> WitnessesSeen | None:
    trust = known.trust
    if trust.policy is None:
        return None
    terms = witness_terms(trust.policy, trust.genesis)
    if terms is None:
        return WitnessesSeen(named=False, quorum=False, age_seconds=0)
    note = None if home is None else FolderSource(home / "log" / "public").read(COSIGNED)
    try:
        seen = quorum_seen(note, terms, trust.log, known.log.chronicle.ledger, now)
    except StrongroomError:
        return WitnessesSeen(named=True, quorum=False, age_seconds=0)
    return WitnessesSeen(named=True, quorum=True, age_seconds=max(0, now - seen))


def _pack(catalogue: Catalogue) -> Look:
    pack = shipped_pack()
    try:
        failed = failures(pack, cases_of(shipped_rules()), linear_regex)
    except MissingExtraError as error:
        return Look(collector="detection.pack", missing=error.message)
    return pack_look(pack, failed, catalogue)
