"""How many examples a test draws: a third of them while one works, all of them in ``make test-all``."""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = "STRONGROOM_THOROUGH"
_LEAST: Final = 20


def examples(thorough: int) -> int:
    """Return how many examples to draw at most, for a test whose promise is worth ``thorough`` of them."""
    return thorough if os.environ.get(THOROUGH) else max(min(_LEAST, thorough), thorough // 3)
