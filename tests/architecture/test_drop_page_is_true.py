"""The page of the drop protocol says what the code does: its example, its numbers, its reasons."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.egress import archive, workspace
from strongroom.egress.archive import LENGTH, MAGIC, Archive, ArchivedFile
from strongroom.enclave.drop import wiring, words
from strongroom.enclave.drop.adapters import folder
from strongroom.release import drop
from support.drops import files_may_leave

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "drop-protocol.md").read_text(encoding="utf-8")
PLAIN = " ".join(PAGE.split())


def test_the_example_is_the_archive_and_costs_what_it_says() -> None:
    match = re.search(r"<!-- example: archive -->\n```text\n(.*?)\n(.*?)\n```", PAGE, re.DOTALL)
    assert match is not None
    mark, rest = match.groups()
    data = Archive.of([ArchivedFile("found.txt", b"something")], {"code": 0}).to_bytes()
    assert data[: len(MAGIC)].decode() == mark + "\n"
    assert data[len(MAGIC) + LENGTH :].decode() == rest.removeprefix("....")
    bits = workspace.drop_bits(files_may_leave(), len(data))
    assert f"It has {len(data)} bytes and costs {bits} bits" in PLAIN
    assert f"bytes={len(data)}  bits={bits}" in PAGE
    assert f"{len(MAGIC)} bytes of mark" in PLAIN


def test_its_numbers_are_the_codes() -> None:
    for text in (
        f"at most {archive.MAX_FILES:,}",
        f"at most {archive.MAX_FACTS} short names",
        f"up to {archive.MAX_DEPTH} parts of up to {archive.MAX_PART} bytes, {archive.MAX_NAME:,} characters",
        f"a drop at most {workspace.MAX_DROP >> 20} MiB, an input at most {archive.MAX_ARCHIVE >> 20} MiB",
        f"to each reader, at most {drop.MAX_READERS}",
        f"within {wiring.AGAIN_SECONDS:.0f} seconds is made again with a new nonce; after {wiring.ANSWER_SECONDS:.0f}",
        f"`{drop.REVIEWER}`",
        f"`{words.OUTPUT[0]}={words.OUTPUT[1]}`",
        f"`{words.PRINTED}`",
    ):
        assert text in PLAIN, text


def test_every_way_to_be_left_out_is_listed() -> None:
    source = Path(folder.__file__).read_text(encoding="utf-8")
    reasons = set(re.findall(r'left_out\["([a-z-]+)"\]', source)) | {"link", "special"}
    assert set(re.findall(r"`left-out-([a-z-]+)`", PAGE)) == reasons
