"""Forms of the console take what people write whole, or say that they don't: nothing is entered that was cut."""

from __future__ import annotations

import html
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.console.act_forms import ActForm, Field
from strongroom.console.errors import FormError
from strongroom.console.forms import MAX_FORM
from strongroom.console.rendering import Renderer
from strongroom.console.routes import incident_acts, requests
from strongroom.console.visits import Visit
from strongroom.response.acts import ActKind

FORM = ActForm(
    kind=ActKind.SENT,
    about="",
    fields=(Field(name="clock", label="The clock", given="nis2"), Field(name="words", label="What", long=True)),
)
RENDERER = Renderer()


def _shown(draft: str) -> tuple[bool, str]:
    """Return whether the page says that a draft isn't filled in, and what stands in its form."""
    incident = SimpleNamespace(id="inc-" + "0" * 32, drafts={"nis2": "sha256:" + "0" * 64})
    reader = SimpleNamespace(words=lambda _incident, _digest: draft.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incident_acts, "_form", lambda _visit: (SimpleNamespace(incident=incident), FORM))
        patch.setattr(incident_acts, "reader_of", lambda _visit: reader)
        patch.setattr(incident_acts, "title", lambda _incident: "an incident")
        page = incident_acts.ask(cast("Visit", SimpleNamespace(query={"clock": "nis2"})))
    text = RENDERER.page(page, chrome=None, secret=b"s", now=0)
    (written,) = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", text, re.DOTALL)
    return "on the command line: <code>strongroom incident report inc-" in text, html.unescape(written)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=200), st.integers(1, 1000))
def test_a_draft_is_filled_in_whole_or_not_at_all(part: str, times: int) -> None:
    draft = part * times
    left_out, written = _shown(draft)
    assert written == ("" if left_out else draft)
    assert not left_out or len(draft.encode()) > MAX_FORM // 4


def test_a_draft_that_no_form_takes_is_entered_elsewhere() -> None:
    assert _shown("x" * MAX_FORM) == (True, "")
    assert _shown("A report.\n" * 100) == (False, "A report.\n" * 100)
    # A browser sends six characters for the end of each line.
    assert _shown("x\n" * (MAX_FORM // 7)) == (True, "")


def test_a_ticket_that_is_too_long_is_refused_and_not_cut() -> None:
    form = dict.fromkeys(("action", "model", "purpose", "ticket", "image", "platform", "precaution", "hours"), "")
    visit = SimpleNamespace(form=form | {"ticket": "t" * (requests.MAX_TICKET + 1)}, trust=None)
    with pytest.raises(FormError, match="ticket"):
        requests.ask(cast("Any", visit))
