"""``strongroom copies``: the register of every copy of a model. Each verb is imported when it is used."""

from __future__ import annotations

import click

from strongroom.cli.lazy import LazyGroup

VERBS: dict[str, tuple[str, str, str]] = {
    "add": ("copies_register", "add", "Register a copy: where it is, who holds it, why, until when."),
    "answer": ("copies_proof", "answer_challenge", "Answer a challenge from a copy's own bytes."),
    "challenge": ("copies_proof", "challenge", "Ask whoever holds a copy to prove that it is there."),
    "check": ("copies_told", "check", "Tell of copies that are overdue, expired or lost; compare with the log."),
    "fingerprint": ("copies_fingerprint", "fingerprint", "Sketch a model's tensors, so that copies are known."),
    "ls": ("copies_told", "ls", "List the copies, and when each was last proved."),
    "record": ("copies_told", "record", "Hand in what the register says and the log lacks."),
    "retire": ("copies_register", "retire", "Say what became of a copy that is no more."),
    "verify": ("copies_proof", "verify", "Check an answer against the same bytes here."),
}


class CopyVerbs(LazyGroup):
    """The group's verbs."""

    commands_of = VERBS


@click.group("copies", cls=CopyVerbs)
def copies() -> None:
    """Keep the register of copies: where each is, who holds it, and when that was last proved."""
