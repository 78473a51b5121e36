"""An attack that ends by an error leaves its scratch copy as the next attack needs it: with no model frozen."""

from __future__ import annotations

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.cast import MODEL
from strongroom.attacks.lab.guarded import let_go


class Copy:
    """What is asked of a scratch copy."""

    def __init__(self, *frozen: str) -> None:
        self.frozen = [*frozen]

    def call(self, operation: str) -> dict[str, object]:
        assert operation == "status"
        return {"frozen": self.frozen}

    def ask(self, action: Action) -> Action:
        return action

    def approve(self, request: Action) -> None:
        assert request is Action.RESUME

    def control(self, request: Action) -> None:
        assert request is Action.RESUME
        self.frozen.clear()


def test_its_model_is_let_go_and_the_error_is_told() -> None:
    made = Copy(MODEL)
    with pytest.raises(ValueError, match="on the way"), let_go(made):  # type: ignore[arg-type]
        raise ValueError("on the way")
    assert not made.frozen


def test_nothing_is_asked_where_nothing_is_frozen() -> None:
    made = Copy("another")
    with let_go(made):  # type: ignore[arg-type]
        pass
    assert made.frozen == ["another"]
