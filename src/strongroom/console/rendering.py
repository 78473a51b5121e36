"""Facts into HTML. Everything is escaped, nothing is undefined, and no template makes markup out of a fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from strongroom.client.render import lasting
from strongroom.console import words
from strongroom.console.forms import CSRF, token_for
from strongroom.console.plots import LinePlot, line_plot
from strongroom.console.visits import Page
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.extras import need


def twin(page: Page, chrome: Mapping[str, Json]) -> bytes:
    """Return everything that a page is made of, as JSON: its own facts, and under ``around`` what stands around it."""
    return encode({**page.data, "around": {**chrome}})


@cache
def _environment() -> Any:
    jinja2 = need("jinja2", extra="console")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("strongroom.console", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        moment=words.moment,
        short=words.short,
        shown=words.shown,
        size=words.size,
        words=words.words,
        micros=words.micros,
        lasting=lasting,
    )
    # Now: reading one takes up to a tenth of a second, and nobody's visit is to wait for it.
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)
    return environment


class Renderer:
    """The templates of this package, all of them read.

    :raises MissingExtraError: the library that reads them isn't installed.
    """

    def __init__(self) -> None:
        self._environment = _environment()

    def page(self, page: Page, *, chrome: Mapping[str, Json] | None, secret: bytes | None, now: Instant) -> str:
        """Return a page's HTML.

        :param chrome: what stands around it; None where nobody is signed in.
        :param secret: of the session, for the tokens of forms.
        """

        def token(path: str) -> str:
            return token_for(secret or b"", path)

        facts: dict[str, Any] = {
            "title": page.title,
            "data": page.data,
            "chrome": chrome,
            "now": format_instant(now),
            "csrf_name": CSRF,
            "token": token,
            "relative": lambda text: words.relative(text, now),
            "odometer_plot": lambda read, limit: _odometer_plot(read, limit, now),
        }
        return str(self._environment.get_template(page.template).render(facts))


def _odometer_plot(read: Sequence[Mapping[str, Any]], limit: int, now: Instant) -> LinePlot | None:
    # In bytes: the lines of the grid then stand at round numbers of what is told.
    series = [(parse_instant(one["at"]), one["total"] // 8) for one in read]
    return line_plot(series, until=now, label=lambda value: words.size(8 * value), ceiling=limit // 8)
