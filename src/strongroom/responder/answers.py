"""Answers about exposure that people entered: kept with the incident, once the record names them.

Nobody signs an answer. The act that enters it is signed, and holds its digest and its counts: bytes of that digest, and
of those counts, are what the person saw, whoever brings them. Nothing else is taken.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError
from strongroom.responder.cases import Case
from strongroom.response.entries import Happened
from strongroom.response.exposure import answer_name, read_answer

MOST_OPEN: Final = 4
"""Answers of which some bytes are here: whoever opens more, and brings none to its end, costs the oldest."""


class AnswerRefusedError(DeniedError):
    """An answer about exposure isn't one that a record names."""

    code = "exposure-answer-refused"


class Answers:
    """Takes answers in parts."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, Digest], bytearray] = OrderedDict()

    async def take(self, case: Case, answer: Digest, part: bytes, *, after: int, size: int) -> None:
        """Take the next bytes of an answer; keep it once it is whole.

        :param after: how many bytes came before; 0 begins it anew. :param size: of the whole answer, in bytes.
        :raises AnswerRefusedError: the record names no such answer, or what came isn't it.
        :raises ConflictError: other bytes are to come first.
        :raises MalformedError: it isn't an answer. :raises UnavailableError: the disk refused.
        """
        if str(answer) not in _named(case):
            raise AnswerRefusedError("the record names no such answer", remedy="enter it first")
        place = (case.id, answer)
        data = self._open.get(place, bytearray()) if after else bytearray()
        if len(data) != after or after + len(part) > size or not part:
            raise ConflictError(f"the answer goes on at byte {len(data)}", reason="answer-elsewhere")
        data += part
        self._open.pop(place, None)
        if len(data) < size:
            self._open[place] = data
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return
        # Whose counts aren't the answer's own would stand in the record as what the log says.
        await asyncio.to_thread(_check, bytes(data), answer, _named(case)[str(answer)])
        await case.keep(answer_name(answer), bytes(data))


def _named(case: Case) -> dict[str, dict[str, str | int]]:
    read = (one for one in case.entries if one.happened is Happened.EXPOSURE_READ)
    return {str(one.facts["exposure"]): dict(one.facts) for one in read}


def _check(data: bytes, answer: Digest, facts: dict[str, str | int]) -> None:
    if Digest.of(data) != answer:
        raise AnswerRefusedError("the bytes aren't those of the answer that the record names")
    if read_answer(data, theft_bits=int(facts["bound"])).facts(answer) != facts:
        raise AnswerRefusedError("the record counts something else than the answer does")
