"""``strongroom audit``: read, search and verify the transparency log. Each command is imported when it is used."""

from __future__ import annotations

from typing import Final

import click

from strongroom.cli.lazy import LazyGroup

# Command -> (module, object, what the list says of it). The text stands here so that `--help` imports nothing.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "bundle": ("audit_bundle", "bundle", "Put the log, an assessment and its statements into one file."),
    "export": ("audit_export", "export", "Hand entries to a SIEM: OCSF, CloudEvents, OTLP, CSV."),
    "exposure": ("audit_exposure", "exposure", "Say who and what could have had a model's bytes, and when."),
    "follow": ("audit_follow", "follow", "Print entries as they are logged."),
    "gather": ("audit_gather", "gather", "Fetch the log and all that it names, for an audit offline."),
    "hosted": ("audit_publish", "hosted", "Look whether a published log is locked, and whether anything was hidden."),
    "ls": ("audit_ls", "ls", "List entries by reading the whole log."),
    "proof": ("audit_proof", "proof", "Prove one entry with one file, offline."),
    "publish": ("audit_publish", "publish_log", "Lay the published log down in a store, under object lock."),
    "search": ("audit_search", "search", "Find entries through an index that is never believed."),
    "shard": ("audit_shard", "shard", "End one tree of the log and begin the next."),
    "show": ("audit_show", "show", "Show one entry, and prove that it is in the log."),
    "timestamp": ("audit_timestamp", "timestamp", "Anchor the log in time by an outside authority."),
    "verify": ("audit_verify", "verify", "Recompute the whole log and compare it with what was signed."),
    "verifier": ("audit_verifier", "verifier", "Print a verifier in one file, for who trusts nothing of this."),
    "verify-bundle": ("audit_bundle", "verify_bundle", "Verify such a file, with nothing but the genesis."),
    "witness": ("audit_witness", "witness", "Witness other people's logs."),
}


class _Commands(LazyGroup):
    commands_of = COMMANDS


@click.group(cls=_Commands)
def audit() -> None:
    """The transparency log: read it, search it, verify it with nothing but its folder and its key."""
