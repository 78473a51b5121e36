"""What a custodian types: a card, a check that keeps the newest escrow, words on a terminal; and the ceremony."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ExitCode
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.escrow import ESCROW_TYPE, Custodian, Escrow, EscrowPlan, make_escrow, plan_again
from strongroom.keys.slip39 import read_share
from support.cosigners import LOG_COSIGNER
from support.escrows import AT, UNLOCK, secret

pytestmark = pytest.mark.integration

KEEPER = Ed25519Signer.from_seed(b"k" * 32)
NAMES = ("ada", "bo", "cy")


def run(*arguments: str, code: ExitCode = ExitCode.OK) -> Result:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == code, ran.output
    return ran


def no_passphrase() -> SecretBytes:
    raise AssertionError


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("custodians")
    for name in NAMES:
        run("people", "keygen", "--id", name, "--out", str(folder / name))
        run("custodian", "key", "--as", str(folder / name), "--out", str(folder / f"{name}.card"))
    return folder


def custodians(folder: Path) -> tuple[Custodian, ...]:
    return tuple(Custodian.of_card(Envelope.parse((folder / f"{name}.card").read_bytes())) for name in NAMES)


@pytest.fixture(scope="module")
def genesis(cards: Path) -> Genesis:
    made = Genesis(
        deployment="test",
        created=AT,
        root_keys=tuple(one.key for one in custodians(cards)[:2]),
        root_threshold=2,
        keeper_key=KEEPER.public_key,
        log_origin="strongroom/test",
        log_key=KEEPER.public_key,
        log_cosigner=LOG_COSIGNER,
    )
    for name in NAMES:
        WalletFolder(cards / name, no_passphrase).bind("https://127.0.0.1:1", made, b"")
    return made


def escrow_file(folder: Path, genesis: Genesis, name: str, *, generation: int = 1, at: int = AT) -> Escrow:
    plan = EscrowPlan(genesis=genesis.digest, threshold=2, custodians=custodians(folder))
    escrow = make_escrow(secret(bytes(32)), plan, generation=generation, unlock_key=UNLOCK.public_key, at=at)
    (folder / name).write_bytes(sign(ESCROW_TYPE, escrow.to_bytes(), KEEPER).to_bytes())
    return escrow


def test_a_check_keeps_the_newest_escrow_and_refuses_to_go_back(cards: Path, genesis: Genesis) -> None:
    first = escrow_file(cards, genesis, "first")
    escrow_file(cards, genesis, "second", generation=2, at=AT + 1)
    escrow_file(cards, genesis, "fork", generation=2, at=AT + 1)
    escrow_file(cards, genesis, "later", generation=2, at=AT + 2)

    def check(name: str, code: ExitCode = ExitCode.OK) -> Result:
        return run("custodian", "check", str(cards / name), "--as", str(cards / "ada"), "--json", code=code)

    told = json.loads(check("first").output)
    assert told == {
        "escrow": str(first.digest),
        "generation": 1,
        "number": 1,
        "threshold": 2,
        "custodians": list(NAMES),
    }
    check("second")
    for older in ("first", "fork"):
        assert "escrow-rolled-back" in check(older, ExitCode.TAMPERED).output
    check("second")
    check("later")
    mine = sign(ESCROW_TYPE, first.to_bytes(), UNLOCK)
    (cards / "forged").write_bytes(mine.to_bytes())
    assert "bad-signature" in check("forged", ExitCode.TAMPERED).output
    swapped = replace(first, shares=(replace(first.shares[0], sealed=first.shares[1].sealed), *first.shares[1:]))
    swapped = replace(swapped, generation=3)
    (cards / "swapped").write_bytes(sign(ESCROW_TYPE, swapped.to_bytes(), KEEPER).to_bytes())
    assert "delivery-refused" in check("swapped", ExitCode.TAMPERED).output


def test_words_are_shown_on_a_terminal_alone(cards: Path, genesis: Genesis) -> None:
    escrow_file(cards, genesis, "kept")
    run("custodian", "check", str(cards / "kept"), "--as", str(cards / "bo"))
    assert "on a terminal alone" in run("custodian", "words", "--as", str(cards / "bo"), code=ExitCode.USAGE).output
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "strongroom.cli.main", "custodian", "words", "--as", str(cards / "bo")]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        os.write(ours, b"y\n\n")
        said = b""
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:
                break
            if not more:
                break
            said += more
    os.close(ours)
    assert process.returncode == 0
    lines = said.decode().partition("terminal?")[2].splitlines()
    shown = [word for line in lines for word in line.split() if word.isalpha() and word.islower()]
    words = " ".join(shown[:33]) if shown[0] != "y" else " ".join(shown[1:34])
    facts = read_share(secret(words.encode().ljust(320)))
    assert (facts.number, facts.threshold) == (2, 2)


def test_a_card_is_one_persons_and_is_written_again(cards: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.card"
    run("custodian", "card", "--as", str(cards / "ada"), "--out", str(again))
    assert again.read_bytes() == (cards / "ada.card").read_bytes()
    ran = run("custodian", "key", "--as", str(cards / "ada"), "--out", str(again), code=ExitCode.CONFLICT)
    assert "identity-exists" in ran.output


REFUSED = [
    (("--custodian-threshold", "1"), ("ada", "bo"), "custodian-threshold"),
    (("--custodian-threshold", "3"), ("ada", "bo"), "custodian-threshold"),
    ((), ("ada", "bo"), "custodian-threshold"),
    (("--custodian-threshold", "2"), ("ada", "ada"), "custodian-twice"),
    (("--custodian-threshold", "2"), ("ada",), "custodian-threshold"),
]


@pytest.mark.parametrize(("more", "names", "reason"), REFUSED)
def test_a_ceremony_refuses_numbers_and_people_that_make_no_escrow(
    cards: Path, tmp_path: Path, more: tuple[str, ...], names: tuple[str, ...], reason: str
) -> None:
    found = [word for name in names for word in ("--custodian", f"{name}={cards / name}.card")]
    given = ["init", "--home", str(tmp_path / "home"), "--ceremony", "--yes", *found, *more]
    keys = [word for one in custodians(cards)[:2] for word in ("--root", str(one.key))]
    assert reason in run(*given, *keys, code=ExitCode.USAGE).output
    assert not list(tmp_path.iterdir())


def test_a_card_under_another_name_and_custodians_without_a_ceremony_are_refused(cards: Path, tmp_path: Path) -> None:
    keys = [word for one in custodians(cards)[:2] for word in ("--root", str(one.key))]
    base = ["init", "--home", str(tmp_path / "home"), *keys, "--custodian", f"ada={cards / 'bo.card'}"]
    assert "custodian-differs" in run(*base, "--ceremony", code=ExitCode.USAGE).output
    assert "a ceremony has custodians" in run(*base, code=ExitCode.USAGE).output


def test_a_plan_says_who_and_which_digest(cards: Path, genesis: Genesis, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    found = [word for name in NAMES for word in ("--custodian", f"{name}={cards / name}.card")]
    run("custodian", "plan", *found, "--threshold", "2", "--out", str(out), "--as", str(cards / "ada"))
    plan = EscrowPlan.parse(out.read_bytes())
    assert plan == plan_again(escrow_file(cards, genesis, "planned"))
    shown = run("custodian", "show-plan", str(out)).output
    assert str(plan.digest) in shown
    assert all(one.key.key_id in shown for one in plan.custodians)
