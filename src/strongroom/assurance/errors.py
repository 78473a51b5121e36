"""Errors of assessment."""

from __future__ import annotations

from strongroom.core.errors import DeniedError


class StatementInvalidError(DeniedError):
    """A statement that counts for nothing: unknown signer, expired, for another deployment. ``reason`` says which."""

    code = "assurance-statement"


class BelowLevelError(DeniedError):
    """The deployment holds a lower level than was asked for."""

    code = "below-level"
