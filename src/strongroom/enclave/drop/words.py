"""What agent, launcher and the command of a workspace have agreed on. Pure.

agent -> launcher   {begin: ask}      have this input recorded, please; before any weights are opened
agent -> launcher   {leave: ask}      have this drop charged, please; after the command has ended
launcher -> agent   {word: envelope}  the keeper's signed answer to the newest asking
launcher -> agent   {refused: error}  the keeper refuses
agent -> launcher   {part: base64}    the encrypted drop, in order; then it says that it ended
"""

from __future__ import annotations

from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import MODEL_PATH, SCRATCH_PATH
from strongroom.ipc.frames import tell_error

OUTPUT: Final = ("STRONGROOM_OUTPUT", "drop")
"""In an image's environment, which is measured: its command has no output at all but the drop."""
PLACE: Final = ".workspace"
"""Folder beside the weights for what was handed in; read-only like them, and no model has a file of that name."""
INPUT: Final = "input"
SCRIPTS: Final = ("code.py", "code.ipynb")
"""The one script, as it is called inside."""
ENVIRONMENT: Final = (
    OUTPUT,
    ("STRONGROOM_CODE", f"{MODEL_PATH}/{PLACE}"),
    ("STRONGROOM_INPUT", f"{MODEL_PATH}/{PLACE}/{INPUT}"),
    ("STRONGROOM_DROP", f"{SCRATCH_PATH}/drop"),
)
DROP_PATH: Final = f"{SCRATCH_PATH}/drop"
PRINTED: Final = "output.txt"
"""What the command printed, in its drop."""
PART: Final = 512 * 1024
"""Bytes in one part."""
ENDED: Final = ExitStatus(0, None)
"""What is told of a workspace's command, however it ended. Its own exit code is in the drop, and charged with it."""


def refused(error: StrongroomError) -> Json:
    """Return a refusal as a message."""
    return {"refused": tell_error(error)}
