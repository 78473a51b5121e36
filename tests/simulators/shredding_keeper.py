"""The real keeper, which kills itself at the place of a destruction named in ``HOME/keeper/crash-at``, once.

Places: the values of :class:`strongroom.keeper.shredding.Shredded`, and those of a rotation's
:class:`strongroom.keeper.rotation.Reached` after ``rotation-``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from simulators.crashing_keeper import at
from strongroom.keeper import wiring
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.shredding import Shredding

if __name__ == "__main__":
    here: Any = wiring
    here.Shredding = partial(Shredding, reached=lambda place: at(place.value))
    here.Rotation = partial(Rotation, reached=lambda place: at(f"rotation-{place.value}"))
    wiring.main()
