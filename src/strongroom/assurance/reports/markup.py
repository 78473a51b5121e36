"""HTML as a tree of the standard library, which escapes every text when it is written: there is no other way in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from strongroom.core.encoding import to_base64
from strongroom.core.printable import printable

if TYPE_CHECKING:
    Node = Element[str]

__all__ = ("add", "page", "table", "write")

_DOCTYPE: Final = "<!DOCTYPE html>\n"
_POLICY: Final = "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
"""The page loads nothing, runs nothing, sends nothing, and has no style but ours, wherever it is opened."""


def add(parent: Node, tag: str, text: str = "", **attributes: str) -> Node:
    """Put an element at the end of another. ``cls`` is its class; ``_`` in a name is written ``-``."""
    named = {name.replace("cls", "class").replace("_", "-"): printable(value) for name, value in attributes.items()}
    made = SubElement(parent, tag, named)
    made.text = printable(text) or None
    return made


def table(parent: Node, caption: str, heads: Iterable[str], cls: str) -> Node:
    """Put a table there, and return its body. The caption is its name to who can't see it."""
    made = add(parent, "table", cls=cls)
    add(made, "caption", caption)
    row = add(add(made, "thead"), "tr")
    for head in heads:
        add(row, "th", head, scope="col")
    return add(made, "tbody")


def page(title: str, style: str) -> tuple[Node, Node]:
    """Return a page and its body. ``style`` is our own, and the only thing that isn't escaped."""
    root = Element("html", {"lang": "en"})
    head = add(root, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    only = to_base64(hashlib.sha256(style.encode()).digest())
    add(head, "meta", http_equiv="Content-Security-Policy", content=_POLICY.format(style=only))
    add(head, "meta", name="color-scheme", content="light dark")
    add(head, "title", title)
    add(head, "style").text = style
    return root, add(root, "body")


def write(root: Node) -> bytes:
    """Write the page out, in UTF-8."""
    return (_DOCTYPE + tostring(root, encoding="unicode", method="html")).encode()
