"""``strongroom people``: wallets, certificates, who is who today, and drafts of the roster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.cli.drafts import read_document, read_draft
from strongroom.cli.files import require_new
from strongroom.cli.later import DIRECTORY
from strongroom.cli.output import show, table
from strongroom.cli.passphrase import new_passphrase
from strongroom.cli.public_keys import public_keys
from strongroom.cli.review import review
from strongroom.cli.session import as_wallet, json_option, open_wallet, read_file, session, write_file
from strongroom.cli.statements import erase, hand_in, object_to, sign_statement, vet
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.documents import person_line, summary
from strongroom.client.state import PersonStanding
from strongroom.client.wallet import MAX_WALLET_FILE
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Instant, SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, person_id
from strongroom.core.signature import SIGNING_ALGORITHMS, PublicKey, SignatureAlgorithm
from strongroom.personnel.authenticators import Authenticator
from strongroom.personnel.roster import Person, PersonKind, Roster
from strongroom.release.documents import DocumentKind

DAY: Final = 86400
_PATH: Final = click.Path(path_type=Path)
_DRAFT: Final = click.Path(path_type=Path, dir_okay=False)
_roles = click.option("--role", "roles", multiple=True, help="A role; give it again for more.")
_publishing = click.option(
    "--publishing-key", "publishing", multiple=True, help="For who publishes: the hybrid key, or a file with it."
)
_org = click.option("--org", help="Organisation unit.")


@click.group("people")
def people() -> None:
    """Make keys and wallets, and draft the roster."""


@people.command("keygen")
@click.option("--out", type=_PATH, required=True, help="The wallet's folder, made new.")
@click.option("--id", "name", required=True, help="The person's id, e.g. dana.")
@click.option("--protect", is_flag=True, help="Protect the key with a passphrase, which is asked for.")
@click.option("--passphrase-fd", type=int, help="Protect it with the passphrase that this open descriptor gives.")
@json_option
def keygen(out: Path, name: str, passphrase_fd: int | None, *, protect: bool, as_json: bool) -> None:
    """Make a wallet with new keys, and print the public ones, a line each: the signing key, then the publishing key.

    Keep what it prints in a file: commands that want either key read it there.
    """
    person = person_id(name)
    if protect or passphrase_fd is not None:
        with new_passphrase(passphrase_fd) as passphrase:
            made = WalletFolder.create(out, person, os.urandom, passphrase=passphrase)
    else:
        made = WalletFolder.create(out, person, os.urandom, passphrase=None)
    publishing = made.require_publishing_key()
    data: Json = {
        "person": person,
        "key": str(made.key),
        "key_id": made.key.key_id,
        "publishing_key": str(publishing),
        "publishing_key_id": publishing.key_id,
        "wallet": str(out),
    }
    show(data, (str(made.key), str(publishing)), as_json=as_json)


@people.command("certify")
@click.option("--home", type=_PATH, required=True, help="The deployment's folder: run this on its host.")
@click.option("--id", "name", required=True, help="Whom the certificate names; the wallet's own id.")
@click.option("--out", type=_PATH, required=True, help="The wallet.")
@click.option("--url", default="https://127.0.0.1:8443", show_default=True, help="The deployment's address.")
@click.option("--enclave", is_flag=True, help="A certificate for an enclave's host (one day) instead of a person's.")
@json_option
def certify(home: Path, name: str, out: Path, url: str, *, enclave: bool, as_json: bool) -> None:
    """Give a wallet a client certificate of the development authority, and bind it to the deployment."""
    wallet = open_wallet(out)
    person = person_id(name)
    if wallet.identity.person != person:
        raise UsageError(f"the wallet is that of `{wallet.identity.person}`, not `{person}`")
    genesis = Genesis.parse(read_file(home / "genesis.json", most=MAX_WALLET_FILE))
    now = SystemClock().now()
    authority = DevCa.open(home / "broker" / "ca", genesis.deployment, at=now)
    issued = authority.issue_enclave(person, at=now) if enclave else authority.issue_person(person, at=now)
    wallet.bind(url, genesis, authority.certificate)
    wallet.certify(key=issued.private_key, certificate=issued.certificate)
    data: Json = {"person": person, "url": url, "genesis": str(genesis.digest), "enclave": enclave}
    show(data, f"`{person}` may open sessions with {url}\n  genesis  {genesis.digest}", as_json=as_json)


@people.command("pin")
@click.option("--genesis", "genesis_file", type=_DRAFT, required=True, help="The deployment's genesis.json.")
@click.option("--digest", required=True, help="Its digest, as you were told it by another way: sha256:...")
@click.option("--ca", type=_DRAFT, required=True, help="The certificate authority of its server (PEM).")
@click.option("--url", required=True, help="The deployment's address, https://...")
@click.option("--certificate", type=_DRAFT, help="Your client certificate (PEM).")
@click.option("--certificate-key", type=_DRAFT, help="Its private key (PEM).")
@as_wallet
@json_option
def pin(
    genesis_file: Path,
    digest: str,
    ca: Path,
    url: str,
    certificate: Path | None,
    certificate_key: Path | None,
    wallet: Path,
    *,
    as_json: bool,
) -> None:
    """Bind a wallet to a deployment, by files that came from its host and a digest that didn't."""
    genesis = Genesis.parse(read_file(genesis_file, most=MAX_WALLET_FILE))
    if not genesis.digest.matches(Digest.parse(digest)):
        raise UsageError("the genesis doesn't have that digest", remedy="ask for the digest again, by voice")
    holder = open_wallet(wallet)
    holder.bind(url, genesis, read_file(ca, most=MAX_WALLET_FILE))
    if certificate is not None and certificate_key is not None:
        holder.certify(
            key=read_file(certificate_key, most=MAX_WALLET_FILE),
            certificate=read_file(certificate, most=MAX_WALLET_FILE),
        )
    root = holder.identity.key in genesis.root_keys
    data: Json = {"genesis": str(genesis.digest), "url": url, "root_holder": root}
    show(data, f"bound to `{genesis.deployment}`{', as a root holder' if root else ''}", as_json=as_json)


@people.command("ls")
@as_wallet
@json_option
def ls(wallet: Path, *, as_json: bool) -> None:
    """List the people in force: unit, standing, vetting and how many days it still holds, and the caps on access."""
    with session(wallet) as person:
        person.refresh()
        known, caps = person.api.people()
        now = person.clock.now()
    rows: list[tuple[str, ...]] = []
    data: list[Json] = []
    for one in known:
        left = None if one.vetted_until is None else (one.vetted_until - now) // DAY
        standing = _standing(one, now)
        days = "-" if left is None else str(left)
        rows.append((one.person, one.unit, standing, str(one.tier), days, ", ".join(one.roles)))
        data.append({"person": one.person, "unit": one.unit, "standing": standing, "tier": one.tier, "days_left": left})
    held: list[Json] = [{"access": cap.access, "people": cap.people, "cap": cap.cap} for cap in caps]
    text = table(rows, ("PERSON", "UNIT", "STANDING", "TIER", "DAYS", "ROLES"))
    said = ", ".join(f"{cap.people} of {cap.cap} {cap.access}" for cap in caps)
    show({"people": data, "caps": held}, (text, f"\naccess held: {said}"), as_json=as_json)


def _standing(one: PersonStanding, now: Instant) -> str:
    if one.suspended:
        return "suspended"
    if one.vetted_until is None:
        return "not vetted" if one.active else "left"
    if not one.active:
        return "left"
    return "ok" if one.cleared(now) else "vetting lapsed"


@people.group("roster")
def roster_group() -> None:
    """Draft the next roster; the root quorum signs it."""


@roster_group.command("new")
@click.argument("file", type=_DRAFT)
@click.option("--next", "following", is_flag=True, help="Begin with the people of the roster in force.")
@as_wallet
@json_option
def roster_new(file: Path, wallet: Path, *, following: bool, as_json: bool) -> None:
    """Begin a draft in FILE: an empty first roster, or the successor of the one in force."""
    require_new(file)
    if following:
        with session(wallet) as person:
            trust = person.refresh()
        if trust.roster is None:
            raise UsageError("no roster is in force", remedy="leave out --next")
        before = trust.digests[DocumentKind.ROSTER]
        draft = replace(trust.roster, epoch=trust.roster.epoch + 1, predecessor=before)
    else:
        genesis = open_wallet(wallet).genesis().digest
        draft = Roster(genesis=genesis, epoch=1, predecessor=None, people=())
    _save(file, draft, as_json=as_json)


@roster_group.command("add")
@click.argument("file", type=_DRAFT)
@click.option("--id", "name", required=True, help="The person's id: a pseudonym, for it stays in the log for good.")
@click.option("--agent-of", "sponsor", help="It's an AI agent, on this person's account.")
@click.option("--key", "keys", multiple=True, required=True, help="Public signing key, or a file with it.")
@_publishing
@_org
@_roles
@json_option
def roster_add(
    file: Path,
    name: str,
    keys: tuple[str, ...],
    publishing: tuple[str, ...],
    org: str | None,
    roles: tuple[str, ...],
    sponsor: str | None,
    *,
    as_json: bool,
) -> None:
    """Add a person, or an AI agent, to the draft. Nobody is cleared by it: see `people vet`."""
    if org is None:
        raise UsageError("a new person needs --org")
    draft, person = _load(file), person_id(name)
    if any(listed.id == person for listed in draft.people):
        raise ConflictError(f"the draft lists `{person}` already", remedy="change them: people roster set")
    added = Person(
        id=person,
        kind=PersonKind.HUMAN if sponsor is None else PersonKind.AGENT,
        sponsor=None if sponsor is None else person_id(sponsor),
        org=org,
        active=True,
        roles=frozenset(roles),
        keys=_keys((), keys, publishing),
    )
    _save(file, replace(draft, people=(*draft.people, added)), as_json=as_json)


@roster_group.command("set")
@click.argument("file", type=_DRAFT)
@click.option("--id", "name", required=True, help="The person's id.")
@click.option("--active/--inactive", default=None, help="With us, or gone: a leaver loses everything at once.")
@click.option("--key", "keys", multiple=True, help="Replaces all keys, publishing keys too: a key or a file with it.")
@_publishing
@_org
@_roles
@json_option
def roster_set(
    file: Path,
    name: str,
    keys: tuple[str, ...],
    publishing: tuple[str, ...],
    org: str | None,
    roles: tuple[str, ...],
    *,
    active: bool | None,
    as_json: bool,
) -> None:
    """Change a person of the draft; what isn't given stays. Roles and keys are replaced as a whole."""
    draft, wanted = _load(file), person_id(name)
    before = draft.person(wanted)
    changed = replace(
        before,
        org=before.org if org is None else org,
        active=before.active if active is None else active,
        roles=frozenset(roles) if roles else before.roles,
        keys=_keys(before.keys, keys, publishing),
    )
    rest = tuple(changed if listed.id == wanted else listed for listed in draft.people)
    _save(file, replace(draft, people=rest), as_json=as_json, shown=wanted)


@roster_group.command("authenticator")
@click.argument("file", type=_DRAFT)
@click.option("--add", "aaguid", required=True, help="The AAGUID of a model of security key: 32 hex digits.")
@click.option("--name", required=True, help="What people call it.")
@click.option("--root", "roots", type=_DRAFT, multiple=True, required=True, help="Its maker's root certificate, PEM.")
@json_option
def roster_authenticator(file: Path, aaguid: str, name: str, roots: tuple[Path, ...], *, as_json: bool) -> None:
    """Allow a model of security key to be enrolled, under its maker's attestation roots."""
    draft = _load(file)
    certificates = tuple(_certificate(root) for root in roots)
    added = Authenticator(aaguid=aaguid.replace("-", "").lower(), name=name, roots=certificates)
    kept = tuple(one for one in draft.authenticators if one.aaguid != added.aaguid)
    _save(file, replace(draft, authenticators=(*kept, added)), as_json=as_json)


def _certificate(file: Path) -> bytes:
    try:
        found = load_pem_x509_certificates(read_file(file, most=MAX_WALLET_FILE))
    except ValueError:
        found = []
    if len(found) != 1:
        raise UsageError(f"`{file.name}` must hold one certificate (PEM)")
    return found[0].public_bytes(Encoding.DER)


@roster_group.command("show")
@click.argument("file", type=_DRAFT)
@json_option
def roster_show(file: Path, *, as_json: bool) -> None:
    """Show a draft, or a signed roster."""
    draft = _shown(file)
    show(parse(draft.to_bytes()), summary(DocumentKind.ROSTER, draft), as_json=as_json)


def _keys(before: tuple[PublicKey, ...], keys: Sequence[str], publishing: Sequence[str]) -> tuple[PublicKey, ...]:
    signing = public_keys(keys, *SIGNING_ALGORITHMS)
    hybrid = public_keys(publishing, SignatureAlgorithm.ED25519_ML_DSA_65)
    # Both keys of a wallet follow from one seed: who replaces the signing key, because it was lost or stolen, must not
    # leave the publishing key of the same seed in force.
    kept = [key for key in before if not keys and not (publishing and key.hybrid)]
    return (*kept, *signing, *hybrid)


def _load(file: Path) -> Roster:
    return Roster.parse(read_draft(file, begin="strongroom people roster new --next"))


def _shown(file: Path) -> Roster:
    return Roster.parse(read_document(file))


def _save(file: Path, draft: Roster, *, as_json: bool, shown: PersonId | None = None) -> None:
    # Parsed again: nothing is written that a root holder couldn't read.
    checked = Roster.parse(draft.to_bytes())
    write_file(file, checked.to_bytes())
    listed = [person_line(person) for person in checked.people if shown in {None, person.id}]
    data: Json = {"file": str(file), "epoch": checked.epoch, "digest": str(Digest.of(checked.to_bytes()))}
    show(data, (f"{file}: epoch {checked.epoch}, {len(checked.people)} people", *listed), as_json=as_json)


people.add_command(vet)
people.add_command(erase)
people.add_command(sign_statement, "sign")
people.add_command(hand_in, "hand-in")
people.add_command(review)
people.add_command(object_to)
for verb in DIRECTORY:
    people.add_command(verb)
