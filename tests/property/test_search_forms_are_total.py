"""Whatever stands in the address of a search: it becomes a query, or is refused; and no other fault comes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.reading.query import Query
from strongroom.console.routes import audit, exposure
from strongroom.core.errors import StrongroomError
from support.logs import AT

WORDS = st.text(max_size=140) | st.sampled_from(
    [
        "",
        "release",
        "access:request",
        "done",
        "7d",
        "999999w",
        "2026-11-23",
        "2026-02-30",
        "9999-12-31",
        "abcdef",
        "\x00",
        "dana",
    ]
)


@given(st.dictionaries(st.sampled_from(audit.ASKED), WORDS))
def test_a_search_is_a_query_or_is_refused(query: dict[str, str]) -> None:
    visit = cast("Any", SimpleNamespace(query=query, now=AT))
    try:
        asked = audit._asked(visit)
        exposure._window(visit, {name: text for name in ("since", "until") if (text := audit.asked_text(visit, name))})
    except StrongroomError:
        return
    given_any = any(text.strip() for text in query.values())
    assert (asked != Query()) is given_any
