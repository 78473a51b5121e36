"""The CSV file of people: one header, UTF-8, a person once a line, no formulas; one bad line refuses all of it."""

from __future__ import annotations

import pytest

from strongroom.broker.people.errors import ListingError
from strongroom.broker.people.listing import MAX_FILE, ChangeKind, changes, patch_of, read_listing, user_of
from strongroom.broker.people.scim_users import PERSON_SCHEMA, lowered, names_of
from strongroom.personnel.lifecycle import Employment, SuspensionCause

HEAD = b"person,employment,unit\n"


def test_a_good_file_is_read() -> None:
    lines = read_listing(b"\xef\xbb\xbf" + HEAD + b'dana,left,"Research, core"\r\nsam,active,\r\n')
    assert [(line.number, line.person, line.employment, line.unit) for line in lines] == [
        (2, "dana", Employment.LEFT, "Research, core"),
        (3, "sam", Employment.ACTIVE, ""),
    ]
    assert read_listing(HEAD) == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1"),
        (b"dana,left,x\n", "line 1"),
        (b"person;employment;unit\n", "line 1"),
        (HEAD + b"dana,left\n", "line 2: it has 2 cells"),
        (HEAD + b"dana,left,x,y\n", "line 2: it has 4 cells"),
        (HEAD + b"\n", "line 2: it has 0 cells"),
        (HEAD + b"dana,Left,x\n", "line 2: the employment"),
        (HEAD + b"Dana,left,x\n", "line 2: a person's id"),
        (HEAD + b"dana,left,x\ndana,active,x\n", "line 3: `dana` stands in line 2"),
        (HEAD + b"dana,left,=HYPERLINK()\n", "line 2: a cell begins like a spreadsheet's formula"),
        (HEAD + b"dana,left,+1\n", "formula"),
        (HEAD + b"dana,left,-1\n", "formula"),
        (HEAD + b"dana,left,@x\n", "formula"),
        (HEAD + b"dana,left,\tx\n", "control character"),
        (HEAD + b'dana,left,"a\nb"\n', "control character"),
        (HEAD + b"dana,left,\x00\n", "line 2"),
        (HEAD + "dana,left,\u202e\n".encode(), "control character"),
        (HEAD + b'dana,left,"x\n', "line 2: it isn't CSV"),
        (HEAD + b'dana,left,"x"y\n', "line 2: it isn't CSV"),
        (HEAD + b"dana,left," + b"x" * 65 + b"\n", "64 characters"),
        (HEAD + b"dana,left,\xff\n", "UTF-8"),
        (HEAD.decode().encode("utf-16"), "UTF-8"),
        (b"x" * (MAX_FILE + 1), "bytes"),
        (HEAD + b"".join(b"p%d,active,\n" % n for n in range(10_000)), "10000 lines"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(ListingError, match=r"^[^\n]*$") as refused:
        read_listing(data)
    assert said in refused.value.message


def test_all_bad_lines_are_named_and_their_content_is_not() -> None:
    bad = b"".join(b"secret %d,left,x\n" % number for number in range(30))
    with pytest.raises(ListingError) as refused:
        read_listing(HEAD + bad)
    assert "line 21:" in refused.value.message
    assert "and 10 more" in refused.value.message
    assert "secret" not in refused.value.message


def test_what_a_line_sends_lowers_and_names_the_person() -> None:
    (line,) = read_listing(HEAD + b"dana,notice,core\n")
    made = user_of(line)
    assert isinstance(made, dict)
    assert lowered(made) is SuspensionCause.NOTICE
    assert names_of(made) == ("dana",)
    patch = patch_of(line)
    assert isinstance(patch, dict)
    assert {"op": "replace", "path": "active", "value": False} in patch["Operations"]  # type: ignore[operator]


def test_no_line_ever_raises() -> None:
    lines = read_listing(HEAD + b"dana,active,core\n")
    for user in (
        {"id": "1", "userName": "dana", "active": False},
        {"id": "1", "userName": "dana", "active": True, PERSON_SCHEMA: {"employment": "leave"}},
    ):
        (change,) = changes(lines, [user])
        assert change.kind is ChangeKind.NOT_RAISED
    assert changes(lines, [])[0].kind is ChangeKind.SAME
