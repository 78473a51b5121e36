from __future__ import annotations

import hashlib

import pytest

from simulators.tpm_chain import (
    SEPARATOR,
    Logged,
    agile_event,
    agile_log,
    boot,
    l32,
    locality,
    old_log,
    spec_id,
    variable,
)
from strongroom.attestation.tpm.boot_facts import SecureBoot, hashed_data, loader_texts, secure_boot
from strongroom.attestation.tpm.event_log import MAX_EVENTS, MAX_LOG, EventLog, replay
from strongroom.core.errors import MalformedError
from strongroom.tpm import wire

BANKS = (wire.ALG_SHA1, wire.ALG_SHA256, wire.ALG_SHA384)


def extended(hash_name: str, start: bytes, *hashed: bytes) -> bytes:
    value = start
    for data in hashed:
        value = hashlib.new(hash_name, value + hashlib.new(hash_name, data).digest()).digest()
    return value


def secure(*events: Logged, bank: int = wire.ALG_SHA256) -> SecureBoot:
    return secure_boot(EventLog.parse(agile_log(boot(register_7=events), BANKS)), bank)


@pytest.mark.parametrize(("bank", "name", "size"), [(4, "sha1", 20), (0xB, "sha256", 32), (0xC, "sha384", 48)])
def test_each_bank_is_replayed_with_its_own_hash(bank: int, name: str, size: int) -> None:
    values = replay(EventLog.parse(agile_log(boot(), BANKS)), bank)
    assert values[0] == extended(name, bytes(size), "version 1\0".encode("utf-16-le"), SEPARATOR)
    assert values[4] == extended(name, bytes(size), SEPARATOR, b"the loader's code")
    assert sorted(values) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_old_form_is_replayed_in_sha1_alone() -> None:
    log = EventLog.parse(old_log(boot()))
    assert log.banks == {wire.ALG_SHA1}
    assert replay(log, wire.ALG_SHA1) == replay(EventLog.parse(agile_log(boot(), BANKS)), wire.ALG_SHA1)
    with pytest.raises(MalformedError, match="no digests of the bank `sha256`"):
        replay(log, wire.ALG_SHA256)


@pytest.mark.parametrize("number", [0, 3, 4])
def test_register_0_begins_with_the_locality_of_startup(number: int) -> None:
    log = EventLog.parse(agile_log([locality(number), *boot()], BANKS))
    start = bytes(31) + bytes([number])
    assert replay(log, 0xB)[0] == extended("sha256", start, "version 1\0".encode("utf-16-le"), SEPARATOR)


@pytest.mark.parametrize(
    "events",
    [(locality(1),), (locality(3), locality(3)), (Logged(0, 3, b"StartupLocality\0"),)],
    ids=["no such", "twice", "none said"],
)
def test_a_locality_that_makes_no_sense_is_refused(events: tuple[Logged, ...]) -> None:
    with pytest.raises(MalformedError, match="started from"):
        EventLog.parse(agile_log([*events, *boot()]))


def test_what_only_describes_is_not_extended() -> None:
    described = Logged(0xFFFFFFFF, 3, b"a reference manifest is somewhere")
    log = EventLog.parse(agile_log([described, Logged(3, 3, b"and this"), *boot()], BANKS))
    assert replay(log, 0xB) == replay(EventLog.parse(agile_log(boot(), BANKS)), 0xB)


@pytest.mark.parametrize("padding", [bytes(64), b"\xff" * 100_000, b"\0"])
def test_memory_that_was_set_aside_may_follow(padding: bytes) -> None:
    log = agile_log(boot(), BANKS)
    assert EventLog.parse(log + padding) == EventLog.parse(log)


@pytest.mark.parametrize("junk", [b"\1", bytes(4) + b"\xff" * 4, b"\xff" * 4 + bytes(4), b"more" * 20])
def test_anything_else_may_not_follow(junk: bytes) -> None:
    with pytest.raises(MalformedError):
        EventLog.parse(agile_log(boot(), BANKS) + junk)


MALFORMED = {
    "empty": b"",
    "no bank": spec_id(()),
    "a bank twice": spec_id((0xB, 0xB)),
    "nine banks": spec_id(range(0x30, 0x39), sizes=dict.fromkeys(range(0x30, 0x39), 32)),
    "a bank with other digests": spec_id((0xB,), sizes={0xB: 20}),
    "a bank with endless digests": spec_id((0x99,), sizes={0x99: 0xFFFF}),
    "a register that no TPM has": agile_log([Logged(24, 4, SEPARATOR)]),
    "an extension of nothing": agile_log([Logged(0xFFFFFFFF, 4, SEPARATOR)]),
    "a digest that wasn't announced": spec_id((0xB,)) + agile_event(Logged(0, 4, SEPARATOR), (0xC,)),
    "a digest twice": spec_id((0xB, 0xC)) + agile_event(Logged(0, 4, SEPARATOR), (0xB, 0xB)),
    "more digests than banks": spec_id((0xB,)) + agile_event(Logged(0, 4, SEPARATOR), (0xB, 0xC)),
    "an event without a digest": spec_id((0xB,)) + l32(0) + l32(4) + l32(0) + l32(0) + b"x",
    "endless data": spec_id((0xB,)) + l32(0) + l32(4) + l32(1) + b"\x0b\0" + bytes(32) + l32(0xFFFFFFFF),
    "endless digests": spec_id((0xB,)) + l32(0) + l32(4) + l32(0xFFFFFFFF),
    "too long": agile_log([Logged(0, 1, bytes(200_000))] * 3),
    "too many events": agile_log([Logged(1, 1, b"")] * (MAX_EVENTS + 1), (0xB,)),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_log_is_refused(fault: str) -> None:
    with pytest.raises(MalformedError):
        EventLog.parse(MALFORMED[fault])


def test_the_longest_log_is_read() -> None:
    assert len(MALFORMED["too long"]) > MAX_LOG
    assert len(EventLog.parse(agile_log([Logged(1, 1, b"")] * MAX_EVENTS, (0xB,))).events) == MAX_EVENTS


def test_every_truncation_inside_an_event_is_refused() -> None:
    whole = [spec_id(BANKS), *(agile_event(event, BANKS) for event in boot())]
    for number, event in enumerate(whole):
        before = b"".join(whole[:number])
        for size in range(1, len(event)):
            # What begins with zeros could as well be memory that was set aside for more events.
            if not number or event[:size].strip(b"\0"):
                with pytest.raises(MalformedError):
                    EventLog.parse(before + event[:size])


def test_a_bank_that_an_event_lacks_is_not_replayed() -> None:
    log = EventLog.parse(spec_id((0xB, 0xC)) + agile_event(Logged(0, 4, SEPARATOR), (0xB,)))
    assert replay(log, 0xB)[0] == extended("sha256", bytes(32), SEPARATOR)
    with pytest.raises(MalformedError, match="`sha384`"):
        replay(log, 0xC)


ON = Logged(7, 0x80000001, variable("SecureBoot", b"\1"))
OFF = Logged(7, 0x80000001, variable("SecureBoot", b"\0"))
END = Logged(7, 4, SEPARATOR)
# Events that claim "on" in the place of a separator, or of the variable, by what isn't extended: type and data.
LYING_END = Logged(7, 0x80000001, variable("PK", b"a key"), hashed=SEPARATOR)
LYING_ON = Logged(7, 0x80000001, variable("SecureBoot", b"\1"), hashed=variable("SecureBoot", b"\0"))


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((ON, END), SecureBoot.ENABLED),
        ((OFF, END), SecureBoot.DISABLED),
        ((Logged(7, 1, ON.data), Logged(7, 1, SEPARATOR)), SecureBoot.ENABLED),
        ((ON, Logged(7, 4, b"\xff" * 4)), SecureBoot.ENABLED),
        ((END, ON), SecureBoot.UNKNOWN),
        ((OFF, END, ON), SecureBoot.DISABLED),
        ((OFF, LYING_END, ON, END), SecureBoot.DISABLED),
        ((LYING_END, ON, END), SecureBoot.UNKNOWN),
        ((LYING_ON, END), SecureBoot.UNKNOWN),
        ((LYING_ON, ON, END), SecureBoot.UNKNOWN),
        ((ON,), SecureBoot.UNKNOWN),
        ((ON, ON, END), SecureBoot.UNKNOWN),
        ((ON, OFF, END), SecureBoot.UNKNOWN),
        ((END,), SecureBoot.UNKNOWN),
        ((), SecureBoot.UNKNOWN),
        ((Logged(7, 5, b"UEFI Debug Mode"), ON, END), SecureBoot.DISABLED),
        ((Logged(7, 5, b"UEFI Debug Mode\0"), ON, END), SecureBoot.DISABLED),
        ((Logged(7, 0x80000001, variable("SecureBoot", b"\2")), END), SecureBoot.UNKNOWN),
        ((Logged(7, 0x80000001, variable("SecureBoot", b"\1\1")), END), SecureBoot.UNKNOWN),
        ((Logged(7, 0x80000001, variable("SecureBoot", b"\1", bytes(16))), END), SecureBoot.UNKNOWN),
        ((Logged(7, 0x80000001, ON.data + b"\0"), END), SecureBoot.UNKNOWN),
        ((Logged(6, 0x80000001, ON.data), END), SecureBoot.UNKNOWN),
    ],
)
def test_secure_boot_is_what_was_extended_before_the_separator(events: tuple[Logged, ...], state: SecureBoot) -> None:
    assert secure(*events) is state
    assert secure(*events, bank=wire.ALG_SHA384) is state


def test_data_counts_only_where_it_is_what_was_hashed() -> None:
    events = EventLog.parse(agile_log([OFF, LYING_ON], BANKS)).events
    assert hashed_data(events[-2], 0xB) == OFF.data
    assert hashed_data(events[-1], 0xB) is None
    assert hashed_data(events[-2], 0xD) is None


def test_a_loaders_texts_are_read_without_their_untrusted_prefix() -> None:
    log = EventLog.parse(agile_log(boot(), BANKS))
    assert loader_texts(log, 0xB) == ("linux /vmlinuz root=/dev/dm-0", "/vmlinuz root=/dev/dm-0")
    forged = Logged(8, 0xD, b"kernel_cmdline: harmless\0", hashed=b"init=/bin/sh")
    loud = Logged(8, 0xD, b"grub_cmd: \x1b[2J\x9bred\nclear", hashed=b"\x1b[2J\x9bred\nclear")
    endless = Logged(8, 0xD, b"a" * 5000)
    many = [Logged(8, 0xD, b"echo %d" % number) for number in range(500)]
    assert loader_texts(EventLog.parse(agile_log([forged, endless])), 0xB) == ()
    assert "\x1b" not in (text := loader_texts(EventLog.parse(agile_log([loud])), 0xB)[0])
    assert text.isprintable()
    assert len(loader_texts(EventLog.parse(agile_log(many)), 0xB)) == 64
