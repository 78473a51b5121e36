"""Texts beside the weights: configurations, vocabularies, licences. UTF-8 without control characters, and no code.

A configuration may name classes that a loader imports from the folder (`auto_map`, `custom_pipelines`): refused.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Final

from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import WINDOW, Source

MAX_TEXT: Final = 256 << 20
"""Vocabularies with merges are tens of megabytes."""
MAX_JSON: Final = 64 << 20
_CONTROL: Final = re.compile("[\0-\x08\x0e-\x1f\x7f]")
_CODE_KEYS: Final = frozenset({"auto_map", "custom_pipelines", "custom_generate"})


def check_text(source: Source, where: str) -> int:
    """Judge a text; returns its size in bytes.

    :raises IntakeRefusedError: form or too-large.
    """
    if source.size > MAX_TEXT:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"{where}: a text of more than {MAX_TEXT} bytes")
    decoder = codecs.getincrementaldecoder("utf-8")()
    for offset in range(0, source.size, WINDOW):
        length = min(WINDOW, source.size - offset)
        try:
            text = decoder.decode(source.read(offset, length), final=offset + length == source.size)
        except UnicodeDecodeError:
            raise IntakeRefusedError(Rule.FORM, f"{where}: not UTF-8") from None
        if _CONTROL.search(text):
            raise IntakeRefusedError(Rule.FORM, f"{where}: a text with control characters")
    return source.size


def check_json(source: Source, where: str) -> int:
    """Judge a JSON file: one value, no name twice in an object, and none that makes a loader import code.

    :raises IntakeRefusedError: form, too-large or remote-code.
    """
    if source.size > MAX_JSON:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"{where}: JSON of more than {MAX_JSON} bytes")
    check_text(source, where)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise IntakeRefusedError(Rule.FORM, f"{where}: a name twice in one object")
        if not _CODE_KEYS.isdisjoint(found):
            raise IntakeRefusedError(
                Rule.REMOTE_CODE, f"{where}: names code that a loader would import", remedy="remove the entry"
            )
        return found

    try:
        json.loads(source.read(0, source.size).decode("utf-8"), object_pairs_hook=unique, parse_int=str)
    except (ValueError, RecursionError):
        raise IntakeRefusedError(Rule.FORM, f"{where}: not JSON") from None
    return source.size
