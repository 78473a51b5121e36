"""The walled process that reads delivered files for the gate: it judges them, and turns checkpoints into safetensors.

Started as ``python -I -m strongroom.quarantine.adapters.read_inside``. It has the channel to the gate and nothing else:
each byte is asked for there, and everything it makes goes back there. It holds no key, and can't tell the gate anything
but an answer.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping

from strongroom.core.canonical import decode, encode
from strongroom.core.fields import Fields
from strongroom.core.printable import printable
from strongroom.intake.folder import MAX_FILES, MAX_NAME
from strongroom.intake.formats import conversion, identify
from strongroom.intake.formats.conversion import Converted
from strongroom.intake.rules import IntakeRefusedError, shown
from strongroom.intake.source import BytesSource, Source, pieces
from strongroom.quarantine.adapters import scan_inside
from strongroom.quarantine.adapters.channel import CHUNK, FROM_GATE, MAX_ASKED, MAX_TEXT, READ, Frame, receive, send


class _Asked:
    """One delivered file, whose bytes the gate has."""

    def __init__(self, channel: socket.socket, number: int, size: int) -> None:
        self._channel, self._number, self.size = channel, number, size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes."""
        held = bytearray()
        for begin in range(offset, offset + length, CHUNK):
            send(self._channel, Frame.READ, READ.pack(self._number, begin, min(CHUNK, offset + length - begin)))
            held += receive(self._channel, FROM_GATE)[1]
        return bytes(held)


def serve(channel: socket.socket) -> None:
    """Do what the gate asks for, one after the other, until it has enough."""
    with Fields(decode(receive(channel, FROM_GATE)[1], max_bytes=MAX_ASKED), "files") as fields:
        listed = fields.objects(
            "files", lambda one: (one.text("name", max_length=MAX_NAME), one.integer("size")), most=MAX_FILES
        )
    sources = {name: _Asked(channel, number, size) for number, (name, size) in enumerate(listed)}
    made: dict[str, Converted] = {}
    while True:
        try:
            asked = receive(channel, FROM_GATE)[1]
        except EOFError:
            return
        try:
            answer = _done(channel, asked, sources, made)
        except IntakeRefusedError as error:
            said = {"message": printable(error.message)[:MAX_TEXT], "remedy": error.remedy}
            send(channel, Frame.REFUSED, encode({"rule": error.rule.value, **said}))
        else:
            send(channel, Frame.ANSWER, answer)


def _done(channel: socket.socket, asked: bytes, sources: Mapping[str, Source], made: dict[str, Converted]) -> bytes:
    with Fields(decode(asked, max_bytes=MAX_ASKED), "asked") as fields:
        do, name = fields.text("do"), fields.text("name", max_length=MAX_NAME)
    match do:
        case "judge":
            found = identify.check_delivery(sources)
            return encode({name: {"format": one.format.value, "facts": one.facts} for name, one in found.items()})
        case "convert":
            made[name] = conversion.convert(sources[name], shown(name))
            return encode({"size": made[name].size})
        case "convert-index":
            index = conversion.convert_index(sources[name], shown(name))
            made[name] = Converted(index, (), len(index))
            return encode({"size": len(index)})
        case _:
            for piece in made[name].pieces():
                for part in pieces(BytesSource(piece), CHUNK):
                    send(channel, Frame.PIECE, part)
            return encode({})


def act() -> None:
    """Serve the gate over standard input, behind the walls."""
    with socket.socket(fileno=os.dup(0)) as channel:
        serve(channel)


if __name__ == "__main__":
    sys.exit(scan_inside.main(act))
