"""``strongroom scan``: find copies of weights by their content, and say which of them are ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from strongroom.cli.copies_parts import host_option, register_option, registrar_key, tell, tell_option
from strongroom.cli.output import end, progress_bar, show, table
from strongroom.cli.scan_remote import remote_files
from strongroom.cli.session import ask_passphrase, json_option, passphrase_option
from strongroom.client.fingerprints import Fingerprints, read_fingerprints
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ExitCode, StrongroomError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.core.printable import printable
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.intake.adapters.register_folder import RegisterFolder, stored_fingerprints
from strongroom.intake.adapters.scan_tree import Met, ScanState, Small, Unread, count, walk, yield_to_others
from strongroom.intake.copies.discovery import Finding, Judge, Judgement, layout_of
from strongroom.intake.copies.register import CopyKind, Register
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.sealing.prelude import model_version_id

MOST_UNREAD: Final = 1000
_OPEN_TO_ALL: Final = 0o004
_CLEAR: Final = (CopyKind.EXPORTED, CopyKind.CACHED)
_SEALED: Final = (CopyKind.SEALED, CopyKind.BACKED_UP, CopyKind.CACHED)


@click.command("scan")
@click.argument("place")
@click.option("--registrar", required=True, help="The registrar's public key, or a file that holds it.")
@click.option(
    "--identity",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The identity that opens the fingerprints (strongroom recipient new).",
)
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="A file to go on from if this is interrupted."
)
@click.option("--leave-out", multiple=True, help="What isn't looked at, e.g. where decoys lie. Repeatable.")
@click.option("--all", "with_others", is_flag=True, help="Also show weights that aren't ours.")
@host_option
@register_option
@tell_option
@passphrase_option
@json_option
def scan(
    *,
    place: str,
    registrar: str,
    identity: Path,
    state: Path | None,
    leave_out: tuple[str, ...],
    with_others: bool,
    host: str,
    register: Path,
    socket_path: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Search PLACE, a folder, a file or an address like s3://bucket/folder, for weights; exit code 1 if some trouble.

    Ours are told by their tensors, whatever the files are called. An alert is a copy of ours that isn't registered,
    lies in the clear, or can be read by everybody on the machine.
    """
    # Read by numpy's algebra when it is loaded, which is below: a search takes one processor, not all.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    key = registrar_key(registrar)
    search = _Search.open(register, key, identity, ask_passphrase(passphrase_fd), host)
    if any(("://" in one) != ("://" in place) for one in leave_out):
        raise UsageError("what is left out of an address is an address, and of a folder a path")
    if "://" in place:
        if state is not None:
            raise UsageError("a search of an address keeps no state", remedy="leave --state out")
        root, kept, met = None, None, remote_files(place, leave_out)
    else:
        root = Path(place).resolve(strict=True)
        about: dict[str, Json] = {"v": 1, "place": os.fsencode(root).hex(), "catalogue": search.digest}
        kept = None if state is None else ScanState(state, about)
        after = kept.after if kept else ()
        out = frozenset(Path(one).resolve() for one in leave_out)
        met = walk(root, after=after, leave_out=out)
        search.place = str(root) if root.is_dir() else str(root.parent)
    with ThreadPoolExecutor(1, initializer=yield_to_others) as pool, progress_bar("searching") as bar:
        total = count(root) if bar and root else 0
        # On a thread of its own: the priority that it gives up is never given back.
        running = pool.submit(search.run, met, kept, lambda done: bar and total and bar(min(done, total), total))
        try:
            running.result()
        except BaseException:
            search.stopped = True
            raise
    now = SystemClock().now()
    troubling = [one for one in search.findings if one.troubling]
    events = [one.event(at=now, host=host) for one in troubling]
    shown = search.findings if with_others else [one for one in search.findings if one.model is not None]
    show(_data(search, shown, events), _text(search, shown), as_json=as_json)
    if socket_path is not None:
        tell(events, socket_path)
    if troubling:
        end(ExitCode.FAILED)


@dataclass(slots=True, kw_only=True)
class _Search:
    """A search under way."""

    judge: Judge
    register: Register
    versions: dict[bytes, tuple[ModelId, int]]
    host: str
    digest: str
    place: str = ""
    stopped: bool = False
    """Set from another thread: the search ends after the file that it looks at."""
    findings: list[Finding] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: {"files": 0, "bytes": 0, "unread": 0})

    @classmethod
    def open(cls, folder: Path, key: PublicKey, identity: Path, ask: Callable[[], SecretBytes], host: str) -> _Search:
        """Read what a search needs: the fingerprints, and the register of the deployment that they are of."""
        data = stored_fingerprints(folder)
        found = read_fingerprints(data, key, open_identity(identity, ask))
        known = RegisterFolder(folder, key, found.genesis).read()
        return cls(
            judge=Judge(found.catalogue),
            register=known,
            versions=_versions(found, known),
            host=host,
            digest=hashlib.sha256(data).hexdigest(),
        )

    def run(self, met: Iterator[Met], state: ScanState | None, report: Callable[[int], object]) -> None:
        """Look at everything that is met; on the way, write down how far it is."""
        if state is not None:
            self.totals |= {name: state.totals.get(name, 0) for name in self.totals}
            self.findings += [self._again(one) for one in state.findings]
        for one in met:
            self._look(one, state)
            report(self.totals["files"])
            if state is not None:
                state.reached(one.parts, self.totals)
            if self.stopped:
                break
        if state is not None:
            state.end(self.totals, finished=not self.stopped)

    def _look(self, met: Met, state: ScanState | None) -> None:
        what = met.what
        if isinstance(what, Unread):
            self._cannot(what.name, what.why)
            return
        self.totals["files"] += 1
        self.totals["bytes"] += what.size
        if isinstance(what, Small):
            return
        path = f"{self.place.rstrip('/')}/{what.name}" if self.place else what.name
        try:
            judged = self.judge.judge(what)
        except (OSError, StrongroomError) as error:
            # Nobody's file ends a search.
            self._cannot(
                what.name, os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else error.message
            )
            return
        if judged.problem:
            self._cannot(what.name, judged.problem)
        if judged.weights:
            open_to_all = what.found is not None and bool(what.found.st_mode & _OPEN_TO_ALL)
            found = self._found(path, judged, world_readable=open_to_all)
            self.findings.append(found)
            if state is not None:
                state.found(found.to_json())

    def _cannot(self, name: str, why: str) -> None:
        self.totals["unread"] += 1
        if len(self.unread) < MOST_UNREAD:
            self.unread.append((printable(name), why))

    def _found(self, path: str, judged: Judgement, *, world_readable: bool) -> Finding:
        sealed = judged.model_version is not None
        like = judged.likeness
        ours = (like.model, like.version) if like else self.versions.get(judged.model_version or b"")
        model, version = ours or (None, None)
        return Finding(
            path=printable(path),
            content=judged.content,
            model=model,
            version=version,
            similarity=like.similarity if like else None,
            tensors=judged.tensors,
            near=like.tensors if like else 0,
            encrypted=sealed,
            registered=self._registered(path, model, sealed=sealed),
            world_readable=world_readable,
            layout=layout_of(printable(path)),
        )

    def _registered(self, path: str, model: ModelId | None, *, sealed: bool) -> bool:
        kinds = _SEALED if sealed else _CLEAR
        return model is not None and self.register.covering(self.host, path, model, *kinds) is not None

    def _again(self, line: dict[str, Json]) -> Finding:
        """Return what was found before an interruption, as the register is now."""
        with Fields(line, "state") as fields:
            found = Finding.read(fields)
        return replace(found, registered=self._registered(found.path, found.model, sealed=found.encrypted))


def _versions(found: Fingerprints, register: Register) -> dict[bytes, tuple[ModelId, int]]:
    """Return the names that sealed objects of ours carry."""
    ours = {(one.model, one.version) for one in found.catalogue.models}
    ours |= {(one.terms.model, one.terms.version) for one in register.copies.values()}
    return {model_version_id(found.genesis, model, version): (model, version) for model, version in ours}


def _data(search: _Search, shown: list[Finding], events: list[dict[str, Json]]) -> Json:
    return {
        "findings": [one.to_json() for one in shown],
        "alerts": [*events],
        "files": search.totals["files"],
        "bytes": search.totals["bytes"],
        "weights_of_others": sum(one.model is None for one in search.findings),
        "unread": [{"path": name, "why": why} for name, why in search.unread],
        "unread_files": search.totals["unread"],
    }


def _text(search: _Search, shown: list[Finding]) -> list[str]:
    rows = [
        (
            one.path,
            one.content.value,
            "another's" if one.model is None else f"{one.model} {one.version}",
            "" if one.similarity is None else f"{one.similarity / 1000:.3f}",
            ", ".join(_troubles(one)),
        )
        for one in shown
    ]
    lines = [table(rows, ("PATH", "CONTENT", "MODEL", "LIKE", "TROUBLE")), ""] if rows else []
    lines.append(f"{search.totals['files']} files, {search.totals['bytes']} bytes; {len(rows)} findings")
    if search.totals["unread"]:
        lines.append(f"{search.totals['unread']} couldn't be read whole:")
        lines += [f"  {name}: {why}" for name, why in search.unread]
    return lines


def _troubles(one: Finding) -> list[str]:
    if one.model is None:
        return []
    told = (
        (not one.registered, "not registered"),
        (not one.encrypted, "in the clear"),
        (one.world_readable, "readable by everybody"),
    )
    return [words for holds, words in told if holds]
