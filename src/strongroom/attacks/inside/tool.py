"""A model with a tool that runs code, at its simplest: evaluates its arguments, as prompts would have it do.

Prints a JSON array: for each, ``answered`` and what came out, or ``failed`` and the errno's name.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path


def weights() -> str:
    """Return the weights that lie beside the tool."""
    return Path(os.environ["STRONGROOM_MODEL"], "weights.txt").read_text()


def answer(prompt: str) -> list[str]:
    """Evaluate a prompt."""
    try:
        return ["answered", repr(eval(prompt, {"weights": weights}))]  # noqa: S307 - that is what it is for
    except OSError as error:
        return ["failed", errno.errorcode.get(error.errno or 0, "")]
    except (subprocess.SubprocessError, ValueError, ImportError) as error:
        return ["broken", type(error).__name__]


if __name__ == "__main__":
    print(json.dumps([answer(prompt) for prompt in sys.argv[1:]]))  # noqa: T201 - its only output
