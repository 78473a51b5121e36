"""Pins that a TPM vouches for: a crash at any moment leaves a start, and a disk from before leaves none."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.signature import Ed25519Signer
from strongroom.keeper.anchor import (
    ACT_SECONDS,
    QUIET_SECONDS,
    Anchored,
    AnchoredPins,
    AnchorMismatchError,
    AnchorUri,
    AnchorUriError,
    anchor_secret,
)
from strongroom.keeper.pins import Pins

SECRET = b"s" * 32
START = 1_800_000_000


def pins(size: int) -> Pins:
    return Pins(
        genesis=Digest.of(b"genesis"),
        log_size=size,
        log_root=Digest.of(str(size).encode()),
        roster_epoch=1,
        policy_epoch=1,
        reference_values_epoch=0,
        latest=START + size,
    )


class PowerLostError(Exception):
    """The machine stops here."""


@dataclass
class Disk:
    """What is on the disk: it can be copied and put back."""

    pins: Pins | None = None
    settled: bytes | None = None
    following: bytes | None = None


@dataclass
class Machine:
    """Disk, TPM and clock; the power goes after ``left`` writes."""

    disk: Disk = field(default_factory=Disk)
    index: bytes | None = None
    secret: bytes | None = None
    now: float = 0.0
    left: int = 100_000
    writes: int = 0

    def wrote(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerLostError

    # The pins' own file.
    def load(self) -> Pins | None:
        return self.disk.pins

    def save(self, given: Pins) -> None:
        self.wrote()
        self.disk.pins = given

    def store(self) -> AnchoredPins:
        return AnchoredPins(self, Files(self), Tpm(self), secret=SECRET, uptime=lambda: self.now)


@dataclass
class Files:
    machine: Machine

    def load(self) -> tuple[bytes | None, bytes | None]:
        return self.machine.disk.settled, self.machine.disk.following

    def save_next(self, data: bytes) -> None:
        self.machine.wrote()
        self.machine.disk.following = data

    def settle(self) -> None:
        self.machine.wrote()
        self.machine.disk.settled, self.machine.disk.following = self.machine.disk.following, None


@dataclass
class Tpm:
    machine: Machine

    def defined(self) -> bool:
        return self.machine.secret is not None

    def define(self, secret: bytes) -> None:
        self.machine.wrote()
        self.machine.secret = secret

    def read(self, secret: bytes) -> bytes | None:
        if secret != self.machine.secret:
            raise UnavailableError("another secret")
        return self.machine.index

    def write(self, data: bytes, secret: bytes) -> None:
        self.machine.wrote()
        if secret != self.machine.secret:
            raise UnavailableError("another secret")
        self.machine.index = data
        self.machine.writes += 1


def run(machine: Machine, steps: list[float], size: int = 1) -> int:
    """Start, and save pins at each step; returns the size that was reached."""
    store = machine.store()
    before = store.load()
    size = max(size, before.log_size if before else 0)
    for step in steps:
        machine.now += step
        size += 1
        if step > 5:
            store.hasten(ACT_SECONDS)
        store.save(pins(size))
    return size


@given(st.lists(st.lists(st.floats(0, 4000), max_size=6), max_size=5), st.lists(st.integers(0, 12), max_size=5))
def test_after_any_crashes_it_starts_again(lives: list[list[float]], crashes: list[int]) -> None:
    machine = Machine()
    for number, steps in enumerate(lives):
        machine.left = crashes[number] if number < len(crashes) else 100_000
        with suppress(PowerLostError):
            run(machine, steps)
    machine.left = 100_000
    run(machine, [1.0])


@given(st.lists(st.floats(0, 4000), min_size=1, max_size=8), st.lists(st.floats(11, 4000), min_size=1, max_size=8))
def test_a_disk_from_before_the_last_anchor_is_refused(first: list[float], then: list[float]) -> None:
    machine = Machine()
    run(machine, first)
    old = copy.copy(machine.disk)
    run(machine, then)
    machine.disk = old
    with pytest.raises(AnchorMismatchError) as caught:
        machine.store().load()
    assert "rolled-back" in caught.value.kinds()


def test_pins_older_than_the_anchored_ones_are_refused_beside_them() -> None:
    machine = Machine()
    run(machine, [20.0, 20.0])
    machine.disk.pins = pins(1)
    with pytest.raises(AnchorMismatchError):
        machine.store().load()
    machine.disk.pins = None
    with pytest.raises(AnchorMismatchError):
        machine.store().load()


def test_a_tpm_that_was_cleared_or_is_another_is_refused() -> None:
    machine = Machine()
    run(machine, [20.0])
    machine.index = machine.secret = None
    with pytest.raises(AnchorMismatchError, match="knows nothing"):
        machine.store().load()
    machine.secret = SECRET
    with pytest.raises(AnchorMismatchError, match="empty"):
        machine.store().load()
    # Whoever makes the index anew doesn't know its secret.
    machine.secret = b"x" * 32
    with pytest.raises(UnavailableError):
        machine.store().load()


def test_writes_are_as_few_as_it_says() -> None:
    machine = Machine()
    run(machine, [1.0] * 7200)
    assert machine.writes <= 1 + 7200 / QUIET_SECONDS
    machine = Machine()
    run(machine, [6.0] * 1000)
    assert machine.writes <= 1 + 6000 / ACT_SECONDS


def test_the_secret_is_the_signing_keys_and_the_deployments() -> None:
    one, other = (Ed25519Signer.from_seed(bytes([number]) * 32) for number in (1, 2))
    secrets = {anchor_secret(key, Digest.of(genesis)) for key in (one, other) for genesis in (b"a", b"b")}
    assert len(secrets) == 4
    assert anchor_secret(one, Digest.of(b"a")) == anchor_secret(one, Digest.of(b"a"))
    assert all(0 < len(secret) <= 32 and secret[-1] for secret in secrets)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        Anchored.parse(data)
    except StrongroomError as error:
        assert isinstance(error, MalformedError)  # noqa: PT017 - whether it is raised depends on the bytes


@given(st.integers(1, 2**53 - 1), st.integers(0, 2**40))
def test_what_is_written_is_read(number: int, size: int) -> None:
    anchored = Anchored(number=number, pins=pins(min(size, 2**30)))
    assert Anchored.parse(anchored.to_bytes()) == anchored
    assert len(anchored.register()) == 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tpm2:device:/dev/tpmrm0",
        "tpm2:device:dev?nv=0x018f0000",
        "tpm2:tcp:/x?nv=0x018f0000",
        "tpm2:device:/dev/tpmrm0?nv=0x01400000",
        "tpm2:device:/dev/tpmrm0?nv=0x018F0000",
        "tpm2:device:/dev/tpmrm0?nv=0x018f0000&x=1",
        "tpm2:device:/dev/tpmrm0?nv=0x018f0000\n",
    ],
)
def test_other_uris_are_refused(text: str) -> None:
    with pytest.raises(AnchorUriError):
        AnchorUri.parse(text)


def test_a_uri_says_where() -> None:
    uri = AnchorUri.parse("tpm2:unix:/run/tpm.sock?nv=0x01bfffff")
    assert (uri.path, uri.index, uri.address) == ("/run/tpm.sock", 0x01BFFFFF, "unix:/run/tpm.sock")
