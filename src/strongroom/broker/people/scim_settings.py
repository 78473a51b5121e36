"""Settings of the SCIM server: ``<home>/broker/scim.toml``; all of them may be left out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields


class ScimSettingsError(UsageError):
    """The settings of the SCIM server can't be used."""

    code = "scim-settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScimSettings:
    """``members_group``: the id, external id or display name of the group whose leavers are suspended."""

    members_group: str | None = None

    @classmethod
    def parse(cls, data: bytes) -> ScimSettings:
        """Read the settings' text.

        :raises ScimSettingsError: it isn't TOML, or a member is extra or out of bounds.
        """
        try:
            with Fields(tomllib.loads(data.decode("utf-8")), "scim") as fields:
                return cls(members_group=fields.text("members_group") if fields.optional("members_group") else None)
        except MalformedError as error:
            raise ScimSettingsError(f"`scim.toml`: {error.message}") from None
        except (ValueError, RecursionError):
            raise ScimSettingsError("`scim.toml` isn't TOML text") from None
