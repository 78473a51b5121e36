"""How states are said to people, in every report alike."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.assurance.findings import Basis, State

STATES: Final[Mapping[State, str]] = MappingProxyType(
    {
        State.MET: "met",
        State.PARTLY: "partly",
        State.NOT_MET: "not met",
        State.NOT_APPLICABLE: "doesn't apply",
        State.NOT_ASSESSED: "not assessed",
    }
)
BASES: Final[Mapping[Basis, str]] = MappingProxyType(
    {
        Basis.AUTOMATIC: "seen",
        Basis.ATTESTED: "attested",
        Basis.BOTH: "seen and attested",
        Basis.NOTHING: "nothing",
    }
)
