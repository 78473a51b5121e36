"""How many examples a test draws: a third of them while one works, all of them before a change is taken."""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = "STRONGROOM_THOROUGH"
"""Set by ``make test-heavy`` and ``make test-all``."""
_LEAST: Final = 20


def examples(thorough: int) -> int:
    """Return how many examples to draw at most, for a test whose promise is worth ``thorough`` of them."""
    return thorough if os.environ.get(THOROUGH) else max(min(_LEAST, thorough), thorough // 3)
