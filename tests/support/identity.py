"""Logging in at a real broker: the listener without certificates, a roster in force, and a person's wallet."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.client.adapters.http import HttpTransport, one_sided_tls
from strongroom.client.adapters.session_files import new_session
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.login import Authenticate, LoginApi, Opened, ProviderTold, open_session
from strongroom.core.canonical import Json
from strongroom.core.envelope import sign
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.personnel.roster import ROSTER_TYPE, Person, Roster
from support.brokers import Answer, Caller, RunningBroker

ROOT = Ed25519Signer.from_seed(b"R" * 32)


def no_passphrase() -> SecretBytes:
    raise AssertionError("no passphrase is needed")


def stranger(running: RunningBroker) -> Caller:
    """Return a caller of the identity listener, without any certificate."""
    caller = Caller(running.identity_port, running.context(None))
    running.callers.append(caller)
    return caller


def wallet(running: RunningBroker, folder: Path, name: str = "dana") -> WalletFolder:
    """Make a wallet that knows the deployment, and has no certificate."""
    WalletFolder.create(folder, PersonId(name), os.urandom, passphrase=None)
    made = WalletFolder(folder, no_passphrase)
    made.bind(f"https://127.0.0.1:{running.port}", running.genesis, running.authority().certificate)
    return made


def adopt(running: RunningBroker, people: Iterable[Person]) -> None:
    """Have a roster of these people adopted."""
    roster = Roster(genesis=running.genesis.digest, epoch=1, predecessor=None, people=tuple(people))
    envelope = sign(ROSTER_TYPE, roster.to_bytes(), ROOT)
    body_of(running.caller("root-1").post("/v1/documents/roster", {"envelope": envelope.to_json()}))


def no_provider(_told: ProviderTold, _nonce: str) -> str:
    raise AssertionError("the deployment names no provider")


def log_in(running: RunningBroker, holder: WalletFolder, authenticate: Authenticate = no_provider) -> Opened:
    """Open a session and keep it in the wallet."""
    session = new_session(holder.identity.person)
    url = f"https://127.0.0.1:{running.identity_port}"
    with HttpTransport(url, one_sided_tls(authority=holder.path / "ca.crt")) as transport:
        opened = open_session(
            LoginApi(transport),
            holder,
            authority=holder.read("ca.crt"),
            request=session.request,
            authenticate=authenticate,
            now=int(time.time()),
        )
    holder.certify(key=session.key, certificate=opened.certificate)
    return opened


def session_caller(running: RunningBroker, holder: WalletFolder) -> Caller:
    """Return a caller with the wallet's session."""
    context = running.context(None)
    context.load_cert_chain(holder.path / "tls.crt", holder.path / "tls.key")
    return running.connect(context)


def body_of(answer: Answer) -> dict[str, Json]:
    assert answer.status == 200, answer.text
    return answer.json


def rogue_authority(folder: Path) -> DevCa:
    return DevCa.create(folder, "test", at=int(time.time()))
