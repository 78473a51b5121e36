"""Plants decoys that can't be told from the real thing by their form: they are the real thing, of random bytes.

A decoy directory is sealed by the same code as a real one, with as many objects of the same sizes, owners, modes and
like times. Its data key and its publisher's key are wiped when it is made. Who has the roster and verifies its manifest
learns that no publisher of ours signed it; who reads bytes, names, sizes or times doesn't.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from strongroom.client.wallet import Wallet
from strongroom.core.adapters.alone import alone
from strongroom.core.adapters.durable import write_durably
from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, NotFoundError, StrongroomError, UsageError
from strongroom.core.ids import ModelId
from strongroom.core.signature import HybridSigner
from strongroom.keys.wrapping import new_key
from strongroom.responder.decoys import Decoy, DecoyKind, DecoyModel, Decoys
from strongroom.responder.wiring import change_decoys, save_decoys
from strongroom.sealing.adapters.directory import read_envelope, seal_directory
from strongroom.sealing.header import Geometry
from strongroom.sealing.manifest import Manifest, read_manifest
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS
from strongroom.sealing.write import VersionFacts

LOCK: Final = "decoys.lock"
_BLOCK: Final = 8 << 20
_GUARDED: Final = ("objects", "index.sealed")
"""Of a decoy directory: not its manifest, which tools that list directories read."""
_ACCESS_KEY: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def plant_shards(folder: Path, like: Path, state: Path, wallet: Wallet, *, now: Instant) -> tuple[Decoy, ...]:
    """Make a decoy directory at ``folder`` that looks like the sealed directory ``like``; returns what is guarded.

    It is written to the responder's list before anybody is told; the responder guards it from its next start.

    :raises ConflictError: something is there already.
    :raises IncompleteSealError: ``like`` isn't a sealed directory. :raises UsageError: it holds no objects, or
        the folder's path isn't printable text.
    :raises StrongroomError: what keeps the list from being read or signed.
    """
    with _changing(state, wallet) as before:
        if folder.exists():
            raise ConflictError(f"`{folder}` is there already", remedy="name a folder that isn't")
        manifest = read_manifest(read_envelope(like))
        folder = _plain(folder)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
            _random_files(Path(name), manifest)
            _seal(Path(name), folder, manifest)
        with _or_nothing(folder):
            _like_times(folder, like)
            files = sorted(path for part in _GUARDED for path in _files(folder / part))
            made = tuple(Decoy(path=str(one), kind=DecoyKind.SHARD, model=manifest.model, planted=now) for one in files)
            save_decoys(state, wallet, replace(before, decoys=(*before.decoys, *made)))
    return made


def plant_credential(path: Path, model: ModelId, state: Path, wallet: Wallet, *, now: Instant) -> Decoy:
    """Write credentials that are valid nowhere to ``path``, in the form of the AWS command line's.

    :raises ConflictError: something is there already. :raises UsageError: the path isn't printable text.
    """
    path = _plain(path)
    identity = "AKIA" + "".join(secrets.choice(_ACCESS_KEY) for _ in range(16))
    secret = base64.b64encode(os.urandom(30)).decode()
    text = f"[weights-backup]\naws_access_key_id = {identity}\naws_secret_access_key = {secret}\n"
    made = Decoy(path=str(path), kind=DecoyKind.CREDENTIAL, model=model, planted=now)
    with _changing(state, wallet) as before:
        if path.exists():
            raise ConflictError(f"`{path}` is there already", remedy="name a file that isn't")
        write_durably(path, text.encode())
        with _or_nothing(path):
            save_decoys(state, wallet, replace(before, decoys=(*before.decoys, made)))
    return made


def rotate(old: Path, new: Path, state: Path, wallet: Wallet, *, like: Path | None, now: Instant) -> tuple[Decoy, ...]:
    """Plant a decoy at ``new`` in the place of the one at ``old``; returns what is guarded there.

    The new one is on the list before the old one is taken away: a crash in between leaves both, and both guarded.

    :param like: of a decoy directory, the sealed directory that the new one looks like.
    :raises NotFoundError: nothing at ``old`` is on the list. :raises ConflictError: something is at ``new`` already.
    :raises UsageError: ``like`` is missing, or it is given for a credential.
    """
    taken = _listed(change_decoys(state, wallet), _resolved(old))
    shards = any(one.kind is DecoyKind.SHARD for one in taken)
    if shards is not (like is not None):
        raise UsageError("name a sealed directory that the new decoy looks like; for a credential, none")
    made = (
        (plant_credential(new, taken[0].model, state, wallet, now=now),)
        if like is None
        else plant_shards(new, like, state, wallet, now=now)
    )
    remove(old, state, wallet)
    return made


def list_model(name: ModelId, model: ModelId, state: Path, wallet: Wallet, *, now: Instant) -> DecoyModel:
    """Put a decoy model on the list: whoever asks for it stops ``model``.

    :raises ConflictError: it is there already. :raises MalformedError: it would stand for itself.
    """
    made = DecoyModel(name=name, model=model, planted=now)
    with _changing(state, wallet) as before:
        if any(one.name == name for one in before.models):
            raise ConflictError(f"`{name}` is on the list already")
        save_decoys(state, wallet, replace(before, models=(*before.models, made)))
    return made


def unlist_model(name: ModelId, state: Path, wallet: Wallet) -> DecoyModel:
    """Take a decoy model off the list; it stays in policy and registry.

    :raises NotFoundError: it isn't on the list.
    """
    with _changing(state, wallet) as before:
        taken = next((one for one in before.models if one.name == name), None)
        if taken is None:
            raise NotFoundError(f"no decoy model of the list is called `{name}`", remedy="strongroom decoy ls")
        save_decoys(state, wallet, replace(before, models=tuple(one for one in before.models if one != taken)))
    return taken


def remove(path: Path, state: Path, wallet: Wallet) -> tuple[Decoy, ...]:
    """Take a decoy, or all of a decoy directory, off the list and off the disk; returns what was taken.

    :raises NotFoundError: nothing there is on the list. :raises UsageError: the folder holds more than decoys.
    """
    path = _resolved(path)
    with _changing(state, wallet) as before:
        taken = _listed(before, path)
        if path.is_dir() and not {file for file in _files(path) if file.name != "manifest.json"} <= {
            Path(one.path) for one in taken
        }:
            raise UsageError(f"`{path}` holds more than decoys", remedy="name the decoy's own folder")
        left = tuple(one for one in before.decoys if one not in taken)
        save_decoys(state, wallet, replace(before, decoys=left))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return taken


@contextlib.contextmanager
def _changing(state: Path, wallet: Wallet) -> Iterator[Decoys]:
    """Yield the list that is to be changed: two who plant at once would each take the other's decoy off it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(state / LOCK):
        yield change_decoys(state, wallet)


@contextlib.contextmanager
def _or_nothing(path: Path) -> Iterator[None]:
    """Take away what was planted, if it doesn't come onto the list: nobody would ever guard it."""
    try:
        yield
    except (StrongroomError, OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        raise


def _resolved(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _plain(path: Path) -> Path:
    """Return where a decoy is to lie; the guard tells each opening by a name that has a letter for each it can't say.

    :raises UsageError: the name isn't such a text.
    """
    made = _resolved(path)
    if not str(made).isprintable():
        raise UsageError("a decoy's path is printable text", remedy="name another place")
    return made


def _listed(known: Decoys, path: Path) -> tuple[Decoy, ...]:
    found = tuple(one for one in known.decoys if Path(one.path) == path or path in Path(one.path).parents)
    if not found:
        raise NotFoundError(f"no decoy of the list lies at `{path}`", remedy="strongroom decoy ls")
    return found


def _files(path: Path) -> list[Path]:
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


def _random_files(folder: Path, manifest: Manifest) -> None:
    if not manifest.objects:
        raise UsageError("the sealed directory holds no objects")
    for number, one in enumerate(manifest.objects):
        left = Geometry.of_object(one.size, 1 << DEFAULT_SEGMENT_BITS).plain_size
        with (folder / f"{number:05}").open("wb") as file:
            while left:
                file.write(os.urandom(min(left, _BLOCK)))
                left -= min(left, _BLOCK)


def _seal(source: Path, folder: Path, manifest: Manifest) -> None:
    facts = VersionFacts(
        genesis=manifest.genesis,
        model=manifest.model,
        version=manifest.version,
        predecessor=manifest.predecessor,
        data_key_id=os.urandom(len(manifest.data_key_id) // 2).hex(),
        publisher=manifest.publisher,
    )
    # Both keys are gone when this returns: what they sealed is noise to everybody.
    with new_key(os.urandom) as data_key:
        signer = HybridSigner.from_seed(os.urandom(32))
        seal_directory(source, folder, facts=facts, data_key=data_key, signer=signer, random_bytes=os.urandom)


def _like_times(folder: Path, like: Path) -> None:
    """Give every file the owner, mode and about the times of the real one that it resembles most: the same size."""
    real = sorted(_files(like), key=lambda path: path.stat().st_size)
    made = sorted(_files(folder), key=lambda path: path.stat().st_size)
    shift = secrets.randbelow(3600) * 1_000_000_000
    for copy, one in zip(made, real, strict=False):
        found = one.stat()
        copy.chmod(found.st_mode & 0o7777)
        with contextlib.suppress(PermissionError):
            os.chown(copy, found.st_uid, found.st_gid)
        os.utime(copy, ns=(found.st_atime_ns - shift, found.st_mtime_ns - shift))
