from __future__ import annotations

import pytest

from strongroom.intake.folder import MAX_FILES, Entry, EntryKind, check_folder
from strongroom.intake.rules import IntakeRefusedError, Rule


def _file(name: str, *, size: int = 1, links: int = 1, kind: EntryKind = EntryKind.FILE) -> Entry:
    return Entry(name=name, kind=kind, size=size, links=links)


def _refused(*entries: Entry) -> Rule:
    with pytest.raises(IntakeRefusedError) as found:
        check_folder(entries)
    return found.value.rule


def test_a_plain_folder_is_taken_in_by_name() -> None:
    found = check_folder([_file("b/c.json"), _file("a.gguf")])
    assert [one.name for one in found] == ["a.gguf", "b/c.json"]


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (_file("a", kind=EntryKind.LINK), Rule.LINK),
        (_file("a", links=2), Rule.LINK),
        (_file("a", kind=EntryKind.OTHER), Rule.SPECIAL_FILE),
        (_file("a", size=1 << 60), Rule.TOO_LARGE),
        (_file(".git/config"), Rule.IGNORED_PATH),
        (_file("sub/.gitattributes"), Rule.IGNORED_PATH),
        (_file(".GitHub/x"), Rule.IGNORED_PATH),
        (_file("__pycache__/x.pyc"), Rule.IGNORED_PATH),
        (_file(".hidden"), Rule.HIDDEN_FILE),
        (_file("m\u043edel.gguf"), Rule.CONFUSABLE_NAME),
        (_file("mo\u0301del.gguf"), Rule.CONFUSABLE_NAME),
        (_file("a\u202egpj.gguf"), Rule.CONFUSABLE_NAME),
        (_file("../a"), Rule.UNSAFE_NAME),
        (_file("/a"), Rule.UNSAFE_NAME),
        (_file("a//b"), Rule.UNSAFE_NAME),
        (_file("a\nb"), Rule.UNSAFE_NAME),
        (_file("a\\b"), Rule.UNSAFE_NAME),
        (_file("a:b"), Rule.UNSAFE_NAME),
        (_file("a. "), Rule.UNSAFE_NAME),
        (_file("a" * 300), Rule.UNSAFE_NAME),
        (_file("/".join("abcdefghi")), Rule.UNSAFE_NAME),
    ],
)
def test_what_a_folder_may_not_hold_is_refused(entry: Entry, rule: Rule) -> None:
    assert _refused(_file("fine.gguf"), entry) is rule


def test_names_that_are_one_elsewhere_are_refused() -> None:
    assert _refused(_file("a.gguf"), _file("A.gguf")) is Rule.NAME_COLLISION
    assert _refused(_file("a/x"), _file("A/y")) is Rule.NAME_COLLISION
    assert _refused(_file("a"), _file("a/y")) is Rule.NAME_COLLISION


def test_a_delivery_has_files_and_not_too_many() -> None:
    assert _refused() is Rule.TOO_MANY_FILES
    assert _refused(*(_file(str(n)) for n in range(MAX_FILES + 1))) is Rule.TOO_MANY_FILES


def test_what_is_left_out_is_not_taken_in() -> None:
    entries = [_file("a.gguf"), _file(".git/config"), _file(".gitattributes"), _file("notes/x", kind=EntryKind.LINK)]
    found = check_folder(entries, leave_out=frozenset({".git", ".gitattributes", "notes"}))
    assert [one.name for one in found] == ["a.gguf"]
    with pytest.raises(IntakeRefusedError):
        check_folder(entries, leave_out=frozenset({".gi", "note"}))
