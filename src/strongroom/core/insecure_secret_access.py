"""Leave to read secret bytes. Import this only where a secret meets the primitive that consumes it.

A reviewer finds each such place by searching for this module's name; a test holds the list of them.
"""

from __future__ import annotations

from typing import Final


class SecretAccess:
    """A token whose only use is to be asked for by name."""

    __slots__ = ()


TOKEN: Final = SecretAccess()
