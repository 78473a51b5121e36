"""What the exposure query says equals asking, moment by moment, whether somebody could have had the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.reading.exposure import LEAVES_WITHIN, Exposure, ExposureFold, Holding, Limits, Way, Window
from strongroom.core.events import EventName
from strongroom.egress.mirror import HOLD_SECONDS
from strongroom.egress.odometer import BLOCK_SECONDS
from support.log_views import MODELS, PLATFORMS, REQUESTS, histories, log_of
from support.logs import AT

E = EventName
MODEL = MODELS[0]
LIMITS = Limits(evidence=3000, lease=500)
EVENTS = (
    E.REQUEST_CREATED,
    E.GRANT_ISSUED,
    E.DATA_KEY_CREATED,
    *[E.RELEASED] * 4,
    E.EXPORTED,
    *[E.REDELIVERED] * 2,
    *[E.LEASE_ATTESTED] * 3,
    *[E.LEASE_ENDED] * 3,
    E.MODEL_FROZEN,
    E.MODEL_RESUMED,
    E.ODOMETER_ADVANCED,
    E.DROP_CHARGED,
)
HANDS_OVER = {E.DATA_KEY_CREATED: Way.SEALED, E.RELEASED: Way.RELEASED, E.EXPORTED: Way.EXPORTED}
PROVES = (E.REDELIVERED, E.LEASE_ATTESTED)
OFFSETS = [a + b for a in (0, LIMITS.lease, LIMITS.evidence) for b in (-1, 0, 1)]


def moments(data: st.DataObject, entries: list[Entry]) -> int:
    """Return a moment at which something may just have begun or ended."""
    return data.draw(st.sampled_from([one.at for one in entries])) + data.draw(st.sampled_from(OFFSETS))


def entries_of(log: list[bytes]) -> list[Entry]:
    return [read_entry(data) for data in log]


def answer(entries: list[Entry], version: int | None = None, window: Window | None = None) -> Exposure:
    fold = ExposureFold(MODEL, LIMITS)
    for index, entry in enumerate(entries):
        fold.apply(index, entry)
    return fold.answer(version=version, window=window)


def name(entry: Entry) -> tuple[str, int] | None:
    facts = entry.facts
    return (entry.text("request"), entry.integer("use")) if {"request", "use"} <= facts.keys() else None


def could_have(entries: list[Entry], delivery: int, moment: int) -> bool:
    """Ask for one delivery and one moment, the slow way."""
    handed = entries[delivery]
    if handed.event is E.DATA_KEY_CREATED:
        # Whoever sealed had the bytes before the log knew.
        return True
    if moment < handed.at:
        return False
    if handed.event is not E.RELEASED:
        return True
    later = []
    for entry in entries[delivery + 1 :]:
        if name(entry) == name(handed) and entry.facts.get("model", MODEL) == MODEL:
            if entry.event in HANDS_OVER:
                break
            later.append(entry)
    proofs = [n for n, entry in enumerate(later) if entry.event in PROVES]
    proved = max([handed.at, *(later[n].at for n in proofs)])
    ends = [entry for entry in later[proofs[-1] + 1 if proofs else 0 :] if entry.event is E.LEASE_ENDED]
    if moment > proved + LIMITS.evidence:
        return False
    return all(moment <= max(handed.at, end.at + LIMITS.lease) for end in ends)


def deliveries(entries: list[Entry]) -> list[int]:
    return [i for i, one in enumerate(entries) if one.event in HANDS_OVER and one.text("model") == MODEL]


@given(histories(EVENTS, most=30))
def test_at_any_moment_it_names_whoever_could_have_had_the_bytes(log: list[bytes]) -> None:
    entries = entries_of(log)
    fold = ExposureFold(MODEL, LIMITS)
    for index, entry in enumerate(entries):
        fold.apply(index, entry)
    for moment in sorted({one.at + offset for one in entries for offset in OFFSETS}):
        found = fold.answer(window=Window(since=moment, until=moment + 1))
        wanted = {i for i in deliveries(entries) if could_have(entries, i, moment)}
        assert {one.proof[0] for one in found.holdings} == wanted, moment


@given(histories(EVENTS, most=40), st.integers(1, 2))
def test_every_delivery_is_named_with_what_the_log_says_of_it(log: list[bytes], version: int) -> None:
    entries = entries_of(log)
    found = answer(entries, version=version)
    wanted = [i for i in deliveries(entries) if entries[i].integer("version") == version]
    assert sorted(one.proof[0] for one in found.holdings) == wanted
    for one in found.holdings:
        handed = entries[one.proof[0]]
        assert (one.request, one.use) == name(handed)
        assert (one.way, one.since, one.version) == (HANDS_OVER[handed.event], handed.at, version)
        assert handed.event is E.DATA_KEY_CREATED or one.person == handed.text("requester")
        assert one.platform == handed.facts.get("platform")
        # Each entry that is given as a proof is about this very delivery.
        assert all(name(entries[i]) == name(handed) for i in one.proof)
    assert list(found.holdings) == sorted(found.holdings, key=lambda one: (one.version, one.since, one.proof[0]))


@given(histories((E.MODEL_FROZEN, E.MODEL_RESUMED, E.EGRESS_BREACHED)))
def test_freezes_are_those_of_the_model(log: list[bytes]) -> None:
    entries = entries_of(log)
    wanted: list[tuple[int, int | None]] = []
    for one in entries[1:]:
        if one.text("model") != MODEL:
            continue
        still = bool(wanted) and wanted[-1][1] is None
        if one.event is E.MODEL_RESUMED and still:
            wanted[-1] = wanted[-1][0], one.at
        elif one.event is not E.MODEL_RESUMED and not still:
            wanted.append((one.at, None))
    assert [(one.since, one.until) for one in answer(entries).freezes] == wanted


@given(histories((E.ODOMETER_ADVANCED, E.DROP_CHARGED, E.RELEASED)), st.data())
def test_bits_are_those_that_the_meter_counted(log: list[bytes], data: st.DataObject) -> None:
    entries = entries_of(log)
    first, second = moments(data, entries), moments(data, entries)
    readings = [
        (one.at, one.integer("total"))
        for one in entries
        if one.event in {E.ODOMETER_ADVANCED, E.DROP_CHARGED} and one.text("model") == MODEL
    ]
    window = Window(since=min(first, second), until=max(first, second) + 1)
    let_out = answer(entries, window=window).let_out
    ever = max([total for at, total in readings if at <= max(first, second)], default=0)
    # What was counted may leave for two hours more: it isn't known to be gone when the window begins.
    before = max([total for at, total in readings if at < min(first, second) - LEAVES_WITHIN], default=0)
    assert (let_out.ever, let_out.within) == (ever, max(0, ever - before))


def test_what_was_counted_before_a_time_and_left_in_it_counts() -> None:
    facts = {"request": REQUESTS[0], "use": 1, "model": MODEL, "total": 500}
    entries = entries_of(log_of([(E.ODOMETER_ADVANCED, 0, {**facts})]))  # type: ignore[dict-item]  # facts of any kind
    # An hour for an answer to begin on a block, and an hour for it to end.
    last = AT + BLOCK_SECONDS + HOLD_SECONDS
    assert answer(entries, window=Window(since=last, until=last + 1)).let_out.within == 500
    gone = Window(since=last + LEAVES_WITHIN, until=last + LEAVES_WITHIN + 1)
    assert answer(entries, window=gone).let_out.within == 0


def told(*acts: tuple[EventName, int, dict[str, object]]) -> tuple[Holding, ...]:
    return answer(entries_of(log_of(acts))).holdings  # type: ignore[arg-type]  # facts of any kind


def test_a_release_ends_with_its_evidence_when_nothing_ended_it() -> None:
    facts = {"request": REQUESTS[0], "use": 1, "model": MODEL, "platform": PLATFORMS[0]}
    (one,) = told((E.RELEASED, 0, dict(facts)))
    assert (one.until, one.ended, one.deliveries) == (AT + LIMITS.evidence, None, 1)


def test_a_recorded_end_reaches_the_enclave_within_a_lease() -> None:
    name_ = {"request": REQUESTS[0], "use": 1}
    (one,) = told((E.RELEASED, 0, {**name_, "model": MODEL}), (E.LEASE_ENDED, 100, {**name_, "reason": "frozen"}))
    assert (one.ended, one.reason, one.until) == (AT + 100, "frozen", AT + 100 + LIMITS.lease)


def test_a_key_delivered_again_after_an_end_opens_the_bytes_again() -> None:
    name_ = {"request": REQUESTS[0], "use": 1}
    (one,) = told(
        (E.RELEASED, 0, {**name_, "model": MODEL}), (E.LEASE_ENDED, 100, dict(name_)), (E.REDELIVERED, 100, dict(name_))
    )
    assert (one.ended, one.until, one.deliveries) == (None, AT + 200 + LIMITS.evidence, 2)
    assert one.proof == (1, 2, 3)


def test_a_publishers_client_has_the_bytes_for_ever_and_is_named() -> None:
    (one,) = told(
        (E.REQUEST_CREATED, 0, {"request": REQUESTS[0], "requester": "dana", "model": MODEL}),
        (E.GRANT_ISSUED, 0, {"request": REQUESTS[0], "requester": "dana", "model": MODEL, "approvers": ("erin",)}),
        (E.DATA_KEY_CREATED, 5, {"request": REQUESTS[0], "use": 1, "model": MODEL}),
    )
    assert (one.way, one.person, one.approvers, one.until) == (Way.SEALED, "dana", ("erin",), None)


def test_a_clock_that_was_set_back_shortens_nothing() -> None:
    name_ = {"request": REQUESTS[0], "use": 1}
    (one,) = told((E.RELEASED, 0, {**name_, "model": MODEL}), (E.LEASE_ATTESTED, -30, dict(name_)))
    assert one.until == AT + LIMITS.evidence


def test_a_breach_freezes() -> None:
    found = answer(entries_of(log_of([(E.EGRESS_BREACHED, 0, {"model": MODEL})])))
    assert found.freezes[0].until is None


def test_a_publisher_is_named_also_for_the_time_before_the_sealing() -> None:
    entries = entries_of(log_of([(E.DATA_KEY_CREATED, 5, {"request": REQUESTS[0], "use": 1, "model": MODEL})]))
    (one,) = answer(entries, window=Window(since=AT - 900, until=AT - 600)).holdings
    assert one.way is Way.SEALED
