"""Passphrases guessed, wallets and sessions stolen, secrets left lying about, an authority's key in the wrong hands."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE
from strongroom.attacks.attack import attack
from strongroom.attacks.ending import RefusedError
from strongroom.attacks.lab.callers import Caller, trusting
from strongroom.attacks.lab.cast import STRANGER
from strongroom.attacks.lab.processes import PASSPHRASE
from strongroom.attacks.lab.scratch import CHEAP, LIFE
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.wiring import unlock
from strongroom.keys.recipient import RecipientKey

COMMON: Final = (b"password", b"123456", b"strongroom", b"letmein", PASSPHRASE[:-1], PASSPHRASE.upper())


def _secret(text: bytes) -> SecretBytes:
    return SecretBytes(bytearray(text))


@attack(
    vectors="CEC-2",
    capacity="OC1",
    measures="SL1-NAC-05 SL2-WST-02",
    layer=Layer.WRAPPING,
    refusals="wrong-passphrase",
)
def guessed_passphrase_of_the_keyring(trial: Trial) -> None:
    """A copy of the keeper's folder is tried with passphrases that people choose, and with near misses."""
    scratch = trial.scratch
    copy = trial.lab.folder("stolen") / "home"
    (copy / "keeper").mkdir(parents=True)
    shutil.copy(scratch.home / "keeper" / "keyring.json", copy / "keeper")
    (copy / "keeper").chmod(0o700)
    with trial.honest("the right passphrase opens the copy"), _secret(PASSPHRASE) as right:
        unlock(copy, scratch.genesis, right)
    for guess in COMMON:
        with _secret(guess) as wrong:
            trial.attempt("a guess", lambda w=wrong: unlock(copy, scratch.genesis, w))  # type: ignore[misc]


@attack(
    vectors="PHY-3 CEC-2",
    capacity="OC3",
    measures="SL1-NHW-01 SL2-NHW-01",
    layer=Layer.CLIENT,
    refusals="wrong-wallet-passphrase",
)
def stolen_laptop(trial: Trial) -> None:
    """A stolen laptop's wallet is opened with guessed passphrases, and with none."""
    folder = trial.lab.folder("laptop") / "wallet"
    with _secret(PASSPHRASE) as passphrase:
        WalletFolder.create(folder, PersonId("dana"), os.urandom, passphrase=passphrase, cost=CHEAP)
    with trial.honest("its owner's passphrase opens it"):
        WalletFolder(folder, lambda: _secret(PASSPHRASE)).signer()
    for guess in (*COMMON, b""):
        trial.attempt("a guess", lambda g=guess: WalletFolder(folder, lambda: _secret(g)).signer())  # type: ignore[misc]


@attack(
    vectors="CEC-3",
    capacity="OC1",
    measures="SL1-NAC-02 SL2-WST-02",
    layer=Layer.WALLS,
    refusals="not-found",
)
def secrets_left_lying_about(trial: Trial) -> None:
    """The passphrase and the log's key are searched for in arguments, environments, logs and the database."""
    scratch = trial.scratch
    pids = [scratch.processes.pid(name) for name in ("log", "keeper", "broker")]
    seed = (scratch.home / "log" / "log.key").read_bytes()
    needles = [PASSPHRASE, seed, seed.hex().encode(), to_base64(seed).encode()]

    def search(wanted: list[bytes]) -> str:
        files = [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("cmdline", "environ")]
        files += [scratch.processes.errors(name) for name in ("log", "keeper", "broker")]
        files += [path for path in (scratch.home / "broker").rglob("*.db*") if path.is_file()]
        files += [path for path in (scratch.home / "log" / "public").rglob("*") if path.is_file()]
        found = [file.name for file in files if any(needle in file.read_bytes() for needle in wanted)]
        if not found:
            raise RefusedError("not-found", f"in none of {len(files)} places")
        return ", ".join(found)

    with trial.honest("the search finds the deployment's folder there"):
        search([str(scratch.home).encode()])
    trial.attempt("the passphrase and the log's key", lambda: search(needles))


@attack(
    vectors="CEC-1 CEC-3",
    capacity="OC2",
    measures="SL2-NST-03 SL3-WAC-01",
    layer=Layer.TRANSPORT,
    refusals="malformed usage approval-malformed",
)
def phished_session_of_an_approver(trial: Trial) -> None:
    """An approver's phished session sends what a button in a chat could: no signature, or one over something else."""
    scratch, rina = trial.scratch, trial.scratch.cast.signer("rina")
    other = _own_signature_is_taken(trial)
    unsigned = Envelope(APPROVAL_TYPE, other.payload, ()).to_json()
    digest = sign(APPROVAL_TYPE, str(other.digest).encode(), rina).to_json()
    bodies: list[Json] = [{}, {"approve": True}, {"envelope": unsigned}, {"envelope": digest}]
    path = f"requests/{other.digest}/approvals"
    for body in bodies:
        trial.attempt("no signature over the request", lambda b=body: scratch.post(path, b, by="rina"))  # type: ignore[misc]


def _own_signature_is_taken(trial: Trial) -> Envelope:
    """Show that an approver's signature counts by their session; returns another request, which nobody approved."""
    scratch = trial.scratch
    request = scratch.ask_export(RecipientKey())
    with trial.honest("the approver's own signature is taken, by the same session"):
        scratch.approve(request, "rina")
    return scratch.ask_export(RecipientKey())


@attack(
    vectors="CEC-1 CEC-3",
    capacity="OC3",
    measures="SL2-NST-03 SL3-WAC-01",
    layer=Layer.DOOR,
    refusals="not-theirs",
)
def phished_signature_of_another_kind(trial: Trial) -> None:
    """An approver was brought to sign the bytes of a request as something else; their session hands that in."""
    scratch, rina = trial.scratch, trial.scratch.cast.signer("rina")
    other = _own_signature_is_taken(trial)
    signed = sign(DENIAL_TYPE, other.payload, rina)
    body: Json = {"envelope": Envelope(APPROVAL_TYPE, signed.payload, signed.signatures).to_json()}
    path = f"requests/{other.digest}/approvals"
    trial.attempt("a denial as an approval", lambda: scratch.post(path, body, by="rina"))


@attack(
    vectors="CEC-4 CEC-3",
    capacity="OC2",
    measures="SL2-WAC-01",
    layer=Layer.TRANSPORT,
    refusals="other-party",
)
def enclaves_certificate_for_a_persons_act(trial: Trial) -> None:
    """The certificate of an enclave's host, stolen there, is used to speak for a person of that name."""
    scratch = trial.scratch
    request = scratch.ask_export(RecipientKey())
    body: Json = {"envelope": scratch.approval(request, "sam").to_json()}
    path = f"/v1/requests/{request.digest}/approvals"
    trial_request = scratch.ask_export(RecipientKey())
    with trial.honest("the person's own certificate may"):
        scratch.approve(trial_request, "sam")
    trial.attempt("an enclave called sam", lambda: scratch.caller("sam", enclave=True).post(path, body).done())


@attack(
    vectors="ACS-4 ACS-1",
    capacity="OC3",
    measures="SL2-WST-02 SL3-WAC-01",
    layer=Layer.DOOR,
    refusals="not-theirs",
)
def stolen_certificate_authority(trial: Trial) -> None:
    """Who stole the authority's key makes an approver's certificate, and approves under the name of their key."""
    scratch = trial.scratch
    request, forged = _strangers_approval(trial)
    name = scratch.cast.signer("rina").public_key.key_id
    named = Envelope(forged.kind, forged.payload, (Signature(name, forged.signatures[0].value),))
    path = f"requests/{request.digest}/approvals"
    trial.attempt("under rina's key's name", lambda: scratch.post(path, {"envelope": named.to_json()}, by="rina"))


@attack(
    vectors="ACS-4 ACS-1",
    capacity="OC3",
    measures="SL2-WST-02 SL3-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="unknown-person",
)
def stolen_certificate_authority_and_a_key_of_ones_own(trial: Trial) -> None:
    """Who stole the authority's key makes an approver's certificate, and approves with a key that no roster has."""
    request, forged = _strangers_approval(trial)
    path, body = f"requests/{request.digest}/approvals", {"envelope": forged.to_json()}
    trial.attempt("their own signing key", lambda: trial.scratch.post(path, body, by="rina"))


def _strangers_approval(trial: Trial) -> tuple[Envelope, Envelope]:
    """Show that who has the authority's key opens sessions; returns a request, and a stranger's approval of it."""
    scratch = trial.scratch
    request = scratch.ask_export(RecipientKey())
    with trial.honest("such a certificate does open a session"):
        scratch.caller("rina").get("/v1/genesis").done()
    return request, sign(APPROVAL_TYPE, request.payload, scratch.cast.signer(STRANGER))


@attack(
    vectors="CEC-3 CEC-4",
    capacity="OC2",
    measures="SL2-WAC-01",
    layer=Layer.TRANSPORT,
    refusals="tls-refused hung-up",
)
def session_that_is_over(trial: Trial) -> None:
    """A certificate that was stolen is used after its life ended."""
    scratch = trial.scratch
    authority = scratch.authority()
    with trial.honest("a certificate that is current opens a session"):
        scratch.caller("sam").get("/v1/genesis").done()
    over = authority.issue_person("sam", at=int(time.time()) - 3 * int(LIFE.total_seconds()), life=LIFE)
    caller = Caller(scratch.port, trusting(authority.certificate, over))
    try:
        trial.attempt("hours later", lambda: caller.get("/v1/genesis").done())
    finally:
        caller.close()


@attack(
    vectors="NET-3",
    capacity="OC3",
    measures="SL2-NST-02 SL2-WST-02",
    layer=Layer.DELIVERY,
    refusals="delivery-mismatch",
)
def eavesdropper_with_the_brokers_tls_keys(trial: Trial) -> None:
    """Whoever reads all that passes the broker opens a recorded delivery, and shows it for another request."""
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    told = scratch.post(f"requests/{request.digest}/export", {"recipient_key": to_base64(key.public)})
    with trial.honest("its recipient opens it"):
        scratch.opened(told["delivery"], request, key)[1].wipe()
    trial.attempt("with another key", lambda: scratch.opened(told["delivery"], request, RecipientKey()))
    other = scratch.ask_export(key)
    trial.attempt("for another request", lambda: scratch.opened(told["delivery"], other, key))
