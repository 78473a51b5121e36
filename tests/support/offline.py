"""A deployment's log as an auditor has it: the published folder, verified with nothing but the genesis."""

from __future__ import annotations

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.entries import Entry
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.verify import verified_entries as reread
from strongroom.audit.verify import verify_log
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from support.deployment import Deployment


def verified_entries(deployment: Deployment) -> list[Entry]:
    """Have the running log writer publish, verify the whole folder offline, and return its entries."""
    with BlockingLogClient(deployment.home / "run" / "log.sock") as client:
        client.flush()
    genesis, source = deployment.genesis, FolderSource(deployment.home / "log" / "public")
    key = VerifierKey(genesis.log_origin, genesis.log_key)
    report = verify_log(source, key, entries=EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest))
    return [entry for _index, entry, _root in reread(source, report.checkpoint)]


def releases(entries: list[Entry], request: Digest) -> list[Digest]:
    """Return to which recipients a request's key was released, as the log has it."""
    found = [entry for entry in entries if entry.event is EventName.RELEASED and entry.digest("request") == request]
    return [entry.digest("recipient") for entry in found]
