"""``strongroom key``: two security keys are made, checked by officers, and sign, each in a process of its own."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulators.security_key import Maker, SecurityKeyProcess
from strongroom.audit.succession import Succession
from strongroom.cli import security_keys
from strongroom.cli.main import main
from strongroom.client.adapters.security_key import SecurityKeyMissingError, WrongPinError
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.default_policy import default_policy
from strongroom.client.told import Recorded
from strongroom.client.trust import Trust
from strongroom.client.wallet import EMPTY_LOG, Seen, WalletError
from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import ExitCode
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.personnel.enrolment import ENROLMENT_TYPE, Enrolment, check_attested
from strongroom.personnel.roster import Person, Roster
from strongroom.release.statements import StatementKind
from support.cosigners import LOG_COSIGNER
from support.security_keys import RP_ID, allowed, pin_of

pytestmark = pytest.mark.integration

KIND = payload_type("approval.v1")
PINS = ("2468", "13579")
ROOT = Ed25519Signer.from_seed(b"R" * 32).public_key
GENESIS = Genesis(
    deployment="test",
    created=1_795_471_717,
    root_keys=(ROOT,),
    root_threshold=1,
    keeper_key=ROOT,
    log_origin="strongroom/test",
    log_key=ROOT,
    log_cosigner=LOG_COSIGNER,
)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[tuple[SecurityKeyProcess, SecurityKeyProcess]]:
    with (
        SecurityKeyProcess(tmp_path / "a", pin=PINS[0]) as first,
        SecurityKeyProcess(tmp_path / "b", pin=PINS[1], algorithms=[-8]) as second,
    ):
        yield first, second


def pin_fd(text: str) -> int:
    """Return a descriptor from which a PIN can be read once."""
    reading, writing = os.pipe()
    os.write(writing, text.encode() + b"\n")
    os.close(writing)
    return reading


def enrol(tmp_path: Path, keys: tuple[SecurityKeyProcess, SecurityKeyProcess], *more: str) -> Result:
    """Run ``strongroom key enrol`` over both keys."""
    arguments = ["key", "enrol", str(tmp_path / "enrolment.json"), "--out", str(tmp_path / "wallet"), "--id", "dana"]
    arguments += ["--genesis", str(GENESIS.digest), "--rp-id", RP_ID]
    for device, pin in zip(keys, PINS, strict=True):
        arguments += ["--device", device.address, "--pin-fd", str(pin_fd(pin))]
    return CliRunner().invoke(main, [*arguments, *more])


def wallet(tmp_path: Path, pin: str) -> WalletFolder:
    return WalletFolder(tmp_path / "wallet", pin_of(pin))


def test_two_keys_make_a_wallet_that_signs_with_whichever_is_plugged_in(
    tmp_path: Path, keys: tuple[SecurityKeyProcess, SecurityKeyProcess]
) -> None:
    made = enrol(tmp_path, keys)
    assert made.exit_code == 0, made.output
    printed = [line for line in made.stdout.splitlines() if line.startswith("webauthn-")]
    assert [line.partition(":")[0] for line in printed] == ["webauthn-es256", "webauthn-ed25519"]
    folder = tmp_path / "wallet"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    content = b"".join(path.read_bytes() for path in folder.iterdir()) + (tmp_path / "enrolment.json").read_bytes()
    assert not any(pin.encode() in content for pin in PINS)
    enrolment = Enrolment.parse(Envelope.parse((tmp_path / "enrolment.json").read_bytes()).payload)
    check_attested(enrolment, allowed(Maker()))
    public = [one.key for one in enrolment.keys]
    assert [str(one) for one in public] == printed

    first = sign(KIND, b"{}", wallet(tmp_path, PINS[0]).signer())
    assert verify(first, KIND, public, threshold=1) == {public[0].key_id}
    keys[0].unplug()
    second = sign(KIND, b"{}", wallet(tmp_path, PINS[1]).signer())
    assert verify(second, KIND, public, threshold=1) == {public[1].key_id}
    with pytest.raises(WrongPinError):
        wallet(tmp_path, PINS[0]).signer().sign(b"message")
    keys[1].unplug()
    with pytest.raises(SecurityKeyMissingError):
        wallet(tmp_path, PINS[1]).signer().sign(b"message")


def test_a_wallet_of_security_keys_publishes_nothing_and_keeps_no_secrets(
    tmp_path: Path, keys: tuple[SecurityKeyProcess, SecurityKeyProcess]
) -> None:
    assert enrol(tmp_path, keys).exit_code == 0
    holder = wallet(tmp_path, PINS[0])
    assert holder.identity.publishing_key is None
    for attempt in (
        holder.publishing_signer,
        lambda: holder.keep("name", SecretBytes(bytearray(b"secret")), b""),
        holder.identity.require_publishing_key,
    ):
        with pytest.raises(WalletError, match="security keys"):
            attempt()
    holder.bind("https://127.0.0.1:8443", GENESIS, b"ca")
    assert wallet(tmp_path, PINS[0]).genesis() == GENESIS
    listed = tmp_path / "wallet" / "security-keys.json"
    body = json.loads(listed.read_bytes())
    body["keys"].reverse()
    listed.write_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(WalletError, match="doesn't begin with"):
        wallet(tmp_path, PINS[0]).signer()


def test_enrol_replaces_nothing_and_wants_a_pin_for_each_key(
    tmp_path: Path, keys: tuple[SecurityKeyProcess, SecurityKeyProcess]
) -> None:
    assert enrol(tmp_path, keys).exit_code == 0
    assert enrol(tmp_path, keys).exit_code == ExitCode.CONFLICT
    common = ["key", "enrol", str(tmp_path / "x"), "--out", str(tmp_path / "w"), "--id", "dana", "--rp-id", RP_ID]
    common += ["--genesis", str(GENESIS.digest)]
    assert CliRunner().invoke(main, [*common, "--device", keys[0].address]).exit_code == ExitCode.USAGE
    both = ["--device", keys[0].address, "--device", keys[1].address]
    assert CliRunner().invoke(main, [*common, *both, "--pin-fd", "9"]).exit_code == ExitCode.USAGE
    twice = ["--device", keys[0].address, "--device", keys[0].address]
    result = CliRunner().invoke(main, [*common, *twice], input=f"{PINS[0]}\n{PINS[0]}\n")
    assert result.exit_code == ExitCode.DENIED
    assert "same security key" in result.stderr
    assert PINS[0] not in result.output
    assert not (tmp_path / "w").exists()


@dataclass
class Told:
    """The broker's API, as far as ``key hand-in`` uses it."""

    handed: list[tuple[StatementKind, Envelope]] = field(default_factory=list)

    def hand_in(self, kind: StatementKind, envelope: Envelope) -> Recorded:
        self.handed.append((kind, envelope))
        return Recorded(index=7, checkpoint=b"")


@dataclass
class Seat:
    """A session, as far as these verbs use one."""

    trust: Trust
    wallet: WalletFolder
    api: Told

    def refresh(self) -> Trust:
        return self.trust


class Office:
    """Two vetting officers and a person with wallets of seeds, and a roster that allows some makers' model."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = Told()
        self.folder = folder
        self.people = []
        for name in ("sam", "olga", "dana"):
            made = WalletFolder.create(folder / name, PersonId(name), os.urandom, passphrase=None)
            self.people.append(Person(id=made.person, org="it", active=True, roles=frozenset(), keys=(made.key,)))
        self.allow()
        monkeypatch.setattr(security_keys, "session", self._session)

    def allow(self, *makers: Maker) -> None:
        """Put a roster in force that allows what these makers make."""
        roster = Roster(
            genesis=GENESIS.digest,
            epoch=1,
            predecessor=None,
            people=tuple(self.people),
            authenticators=allowed(*makers),
        )
        self.trust = Trust(
            genesis=GENESIS,
            log=Succession.of(GENESIS),
            head=EMPTY_LOG,
            roster=roster,
            policy=default_policy(GENESIS.digest),
            reference_values=None,
            digests={},
            models={},
            locked=False,
            cause="",
            seen=Seen(),
        )

    @contextmanager
    def _session(self, path: Path, passphrase_fd: int | None = None) -> Iterator[Seat]:
        del passphrase_fd
        yield Seat(self.trust, WalletFolder(path, pin_of("none")), self.api)

    def run(self, verb: str, who: str, *more: str, file: str = "enrolment.json") -> Result:
        arguments = ["key", verb, str(self.folder / file), "--as", str(self.folder / who), *more]
        return CliRunner().invoke(main, arguments)


def test_officers_see_check_sign_and_hand_in(
    tmp_path: Path, keys: tuple[SecurityKeyProcess, SecurityKeyProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enrol(tmp_path, keys).exit_code == 0
    office = Office(tmp_path, monkeypatch)
    for makers in ((), (Maker(name="another", aaguid=Maker().aaguid),)):
        office.allow(*makers)
        for verb in (("show",), ("sign", "--yes"), ("hand-in",)):
            assert office.run(verb[0], "sam", *verb[1:]).exit_code == ExitCode.TAMPERED
    assert office.api.handed == []

    office.allow(Maker())
    shown = office.run("show", "sam")
    assert shown.exit_code == 0, shown.output
    for part in ("dana", RP_ID, Maker().aaguid, "nobody yet"):
        assert part in shown.stdout
    assert office.run("sign", "dana", "--yes").exit_code == ExitCode.DENIED
    for officer in ("sam", "olga"):
        signed = office.run("sign", officer, "--yes")
        assert signed.exit_code == 0, signed.output
    assert json.loads(office.run("show", "sam", "--json").stdout)["signers"] == ["sam", "olga"]
    handed = office.run("hand-in", "dana")
    assert handed.exit_code == 0, handed.output
    ((kind, envelope),) = office.api.handed
    assert kind is StatementKind.ENROLMENT
    officers = [key for person in office.people for key in person.keys if person.id != "dana"]
    assert len(verify(envelope, ENROLMENT_TYPE, officers, threshold=2)) == 2

    damaged = Envelope(envelope.kind, envelope.payload.replace(b'"person":"dana"', b'"person":"olga"'), ())
    (tmp_path / "other.json").write_bytes(damaged.to_bytes())
    assert office.run("sign", "sam", "--yes", file="other.json").exit_code == ExitCode.TAMPERED
