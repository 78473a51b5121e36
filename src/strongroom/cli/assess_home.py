"""What ``assess`` sees of a deployment's own folder: key services, walls, logins, the responder, the installation."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.assessor.collecting import Look
from strongroom.broker.adapters.trust_files import read_toml
from strongroom.broker.login_settings import OIDC, read_settings
from strongroom.broker.people.adapters.files import EVENT_SETTINGS, TOKENS
from strongroom.cli.copies_parts import registrar_key
from strongroom.cli.doctor_self import judge_installation
from strongroom.cli.files import read_file
from strongroom.cli.keeper_facts import keeper_facts
from strongroom.cli.root_parts import part_states
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, TamperedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.enclave.facts import FactState
from strongroom.intake.adapters.register_folder import STATEMENTS, RegisterFolder
from strongroom.personnel.roster import Roster
from strongroom.responder.adapters.record_file import read_record
from strongroom.responder.decoys import MAX_LIST, read_decoys
from strongroom.responder.record import check_record
from strongroom.responder.wiring import DECOYS, load_settings

_WALLS: Final = "keeper's walls"
_SECRETS: Final = "keeper's keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The files that the installation is compared with, and the key that signed them. None: it isn't looked at."""

    provenance: Path | None
    key: str | None
    bill: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderPlace:
    """The responder's settings, and its own folder. None: there is none, or it isn't on this machine."""

    settings: Path | None
    state: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterPlace:
    """The folder of the register of copies, and its registrar's key. None: it isn't looked at."""

    folder: Path | None
    key: str | None


def home_looks(home: Path) -> Iterator[Look]:
    """Look at the deployment's folder."""
    yield _provider(home)
    yield _walls(home)
    yield _login(home)


def _provider(home: Path) -> Look:
    try:
        states = part_states(home)
    except (StrongroomError, OSError) as error:
        why = error.message if isinstance(error, StrongroomError) else "the keyring can't be read by this user"
        return Look(collector="keys.provider", missing=why)
    return Look(
        collector="keys.provider",
        facts={
            "services": tuple(state.provider.service.value for state in states),
            "closed": tuple(str(state.provider) for state in states if state.error is not None),
        },
    )


def _walls(home: Path) -> Look:
    known = {fact.name: fact for fact in keeper_facts(home)}
    if _WALLS not in known or _SECRETS not in known:
        return Look(collector="keys.memory", missing="the keeper doesn't answer this user")
    return Look(
        collector="keys.memory",
        facts={name: known[fact].state is FactState.OK for name, fact in (("walls", _WALLS), ("hidden", _SECRETS))},
    )


def _login(home: Path) -> Look:
    provisioned = any((home / "broker" / name).exists() for name in (TOKENS, EVENT_SETTINGS))
    try:
        said = read_toml(home / "broker" / OIDC)
        settings = None if said is None else read_settings(said)
    except (StrongroomError, OSError):
        return Look(collector="access.login", missing=f"`{OIDC}` can't be read")
    if settings is None:
        return Look(collector="access.login", facts={"provider": False, "provisioned": provisioned})
    return Look(
        collector="access.login",
        facts={
            "provider": settings.provider is not None,
            "issuer": settings.provider.issuer if settings.provider else "",
            "session_seconds": settings.session,
            "provisioned": provisioned,
        },
    )


def responder_look(place: ResponderPlace, genesis: Genesis, roster: Roster | None, silent: Collection[str]) -> Look:
    """Look at the responder that guards this machine.

    :param silent: responders that the log calls silent.
    """
    if place.settings is None or place.state is None:
        return Look(collector="detection.responder", missing="no responder's settings and folder were named")
    try:
        settings = load_settings(place.settings)
        decoys, whole = _decoys(place.state, genesis, roster), _whole(place.state)
    except (StrongroomError, OSError) as error:
        why = error.message if isinstance(error, StrongroomError) else "the responder's folder can't be read"
        return Look(collector="detection.responder", missing=why)
    return Look(
        collector="detection.responder",
        facts={
            "running": _running(place.state.stat().st_uid) and not silent,
            "silent": tuple(sorted(silent)),
            "decoys": decoys,
            # One that may be silent for ever may as well not be there.
            "sensors": tuple(one.name for one in settings.others if one.silent_seconds),
            "acting": settings.acting,
            "record_whole": whole,
        },
    )


def register_look(place: RegisterPlace, genesis: Digest, sealed: Collection[Path], now: Instant) -> Look:
    """Look at the register of copies, whole and signed by its registrar, beside the copies that are looked at here.

    :param sealed: the sealed directories that this assessment looks at.
    :raises UsageError: the key can't be read.
    """
    if place.folder is None or place.key is None:
        return Look(collector="copies.register", missing="no register of copies and registrar's key were given")
    key = registrar_key(place.key)
    try:
        if not (place.folder / STATEMENTS).exists():
            return Look(collector="copies.register", missing="there is no register in the folder")
        register = RegisterFolder(place.folder, key, genesis).read()
    except (StrongroomError, OSError) as error:
        why = error.message if isinstance(error, StrongroomError) else "the register can't be read"
        return Look(collector="copies.register", missing=why)
    host, looked = os.uname().nodename, {str(folder.resolve()) for folder in sealed}
    kept = [copy for copy in register.copies.values() if copy.ending is None]
    return Look(
        collector="copies.register",
        facts={
            "copies": len(kept),
            "unlooked": tuple(
                copy.terms.place for copy in kept if copy.terms.host == host and copy.terms.place not in looked
            ),
            "elsewhere": sum(copy.terms.host != host for copy in kept),
            "troubled": tuple(f"{copy.id}: {trouble.value}" for copy, trouble in register.troubles(now)),
            "head": str(register.head),
        },
    )


def _decoys(state: Path, genesis: Genesis, roster: Roster | None) -> int:
    path = state / DECOYS
    if not path.exists() or roster is None:
        return 0
    envelope = Envelope.parse(read_file(path, most=MAX_LIST))
    if not envelope.signatures:
        raise TamperedError("nobody signed the list of decoys")
    _person, key = roster.holder(envelope.signatures[0].key_id)
    return len(read_decoys(envelope, key, genesis.digest).decoys)


def _whole(state: Path) -> bool:
    try:
        check_record(read_record(state))
    except StrongroomError:
        return False
    return True


def _running(owner: int) -> bool:
    # Anybody can call a process so; only who owns the responder's folder can be the responder.
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            theirs = process.stat().st_uid == owner
        except OSError:
            continue
        if theirs and b"responder" in words and b"run" in words:
            return True
    return False


def self_look(files: Installation) -> Look:
    """Compare what is installed with what was built and signed, as ``strongroom doctor --self`` does.

    :raises UsageError: files that don't go together.
    """
    if files.provenance is None or files.key is None:
        return Look(collector="code.self", missing="no provenance and key to compare the installation with were given")
    try:
        judged, signed, bill = judge_installation(None, files.provenance, files.key, files.bill)
    except StrongroomError as error:
        if isinstance(error, UsageError):
            raise
        if isinstance(error, TamperedError):
            return Look(collector="code.self", facts={"verified": False, "provenance": False, "dependencies": False})
        return Look(collector="code.self", missing=error.message)
    return Look(
        collector="code.self",
        facts={
            "verified": not judged.findings,
            "provenance": not judged.findings,
            "dependencies": bill is not None and not judged.unlisted and not judged.findings,
            "revision": signed.revision if signed else "",
        },
    )
