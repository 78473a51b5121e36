"""``strongroom copies challenge|answer|verify``: whether a copy is still there, without moving it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.cli.asking import seconds
from strongroom.cli.copies_parts import register_option, state, writing_register
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, write_file
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import ConflictError, UsageError
from strongroom.intake.adapters.copy_files import copy_sources
from strongroom.intake.copies.possession import (
    MAX_FILE,
    NONCE_BYTES,
    Answer,
    Challenge,
    answer,
    check_answer,
    files_digest,
)
from strongroom.intake.copies.register import Step

_file = click.Path(path_type=Path, dir_okay=False)
_out = click.option("--out", type=_file, required=True, help="The file to write.")


@click.command("challenge")
@click.argument("copy")
@_out
@click.option("--good-for", default="1h", show_default=True, help="How long an answer may take.")
@register_option
@as_wallet
@passphrase_option
@json_option
def challenge(
    *, copy: str, out: Path, good_for: str, register: Path, wallet: Path, passphrase_fd: int | None, as_json: bool
) -> None:
    """Write a challenge to whoever holds COPY. Register and log say that it was made; a new one replaces it."""
    with writing_register(register, wallet, passphrase_fd) as (writing, person):
        known = writing.register
        # As the register's statements go, should a clock have been ahead: a proof is dated like that, too.
        now = max(SystemClock().now(), known.at)
        made = Challenge(copy=known.one(copy).id, nonce=os.urandom(NONCE_BYTES), until=now + seconds(good_for))
        state(writing, person, known.next(copy, Step.CHALLENGED, now, challenge=made))
    write_file(out, made.to_bytes())
    data: Json = {"copy": copy, "until": format_instant(made.until), "file": str(out), "head": str(known.head)}
    show(data, f"{out}: to be answered by {format_instant(made.until)}: strongroom copies answer", as_json=as_json)


@click.command("answer")
@click.argument("challenge_file", type=_file)
@click.argument("place", type=click.Path(path_type=Path, exists=True))
@_out
@json_option
def answer_challenge(*, challenge_file: Path, place: Path, out: Path, as_json: bool) -> None:
    """Answer CHALLENGE_FILE from the copy at PLACE. Needs no wallet: the bytes answer. A few MiB of them are read."""
    asked = Challenge.parse(read_file(challenge_file, most=MAX_FILE))
    write_file(out, answer(asked, copy_sources(place)).to_bytes())
    show({"copy": asked.copy, "file": str(out)}, f"{out}: give it back to who asked", as_json=as_json)


@click.command("verify")
@click.argument("copy")
@click.argument("answer_file", type=_file)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="The same bytes, here: another copy of that version, sealed or not as the one that was challenged.",
)
@register_option
@as_wallet
@passphrase_option
@json_option
def verify(
    *,
    copy: str,
    answer_file: Path,
    against: Path,
    register: Path,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Check ANSWER_FILE, and say in the register and the log that COPY was proved."""
    given = Answer.parse(read_file(answer_file, most=MAX_FILE))
    reference = copy_sources(against)
    with writing_register(register, wallet, passphrase_fd) as (writing, person):
        now, known = SystemClock().now(), writing.register
        one = known.one(copy)
        if one.challenge is None:
            raise ConflictError(f"no challenge to the copy `{copy}` is open", remedy="strongroom copies challenge")
        if not files_digest(reference).matches(one.terms.files):
            raise UsageError(f"`{against}` has other files than that copy", remedy="name the same files")
        check_answer(given, one.challenge, reference, now=now)
        said = known.next(copy, Step.PROVED, now)
        state(writing, person, said)
    data: Json = {"copy": copy, "proved": format_instant(said.at), "head": str(known.head)}
    due = format_instant(known.one(copy).due)
    show(data, f"copy {copy}: proved; again by {due}", as_json=as_json)
