"""What a SCIM resource says about people, read from its JSON: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from strongroom.broker.people.matching import candidates, fold
from strongroom.broker.people.records import Lookup, LookupName, RecordKind
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import Employment, SuspensionCause

PERSON_SCHEMA: Final = "urn:ietf:params:scim:schemas:extension:strongroom:2.0:Person"
MAX_NAME: Final = 1024
"""Characters of what a record is looked up by; longer values aren't indexed."""
MAX_EMAILS: Final = 32
NOT_STORED: Final = ("password",)
"""A password that a provider sends us is one that we could lose."""

Resource = Mapping[str, Any]


def text_of(resource: Resource, name: str) -> str | None:
    """Return a member that is a short string, else None."""
    value = resource.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None


def extension_of(resource: Resource) -> Resource:
    """Return our extension's members; empty when there are none."""
    found = resource.get(PERSON_SCHEMA)
    return found if isinstance(found, Mapping) else {}


def names_of(user: Resource) -> tuple[PersonId, ...]:
    """Return the person's ids that a user may stand for, the best first."""
    return candidates(
        person=text_of(extension_of(user), "personId"),
        external_id=text_of(user, "externalId"),
        user_name=text_of(user, "userName"),
    )


def lowered(user: Resource) -> SuspensionCause | None:
    """Return why a user's state ends a person's access; None when it doesn't.

    An employment that isn't in the list ends it too: it's anything but ``active``.
    """
    told = text_of(extension_of(user), "employment")
    if told is not None:
        try:
            cause = Employment(fold(told)).cause
        except ValueError:
            cause = SuspensionCause.DEACTIVATED
        if cause is not None:
            return cause
    # Only `false` deactivates; a user without the member is as active as RFC 7643 section 4.1.1 leaves open.
    return SuspensionCause.DEACTIVATED if user.get("active") is False else None


def members_of(group: Resource) -> frozenset[str]:
    """Return the ids of a group's members."""
    return frozenset(found for member in _objects(group, "members") if (found := text_of(member, "value")))


def is_group(group: Resource, configured: str | None) -> bool:
    """Tell whether a group is the configured one, which is named by its id, external id or display name."""
    if configured is None:
        return False
    names = (text_of(group, "id"), text_of(group, "externalId"), text_of(group, "displayName"))
    return fold(configured) in {fold(name) for name in names if name}


def lookups_of(kind: RecordKind, resource: Resource) -> tuple[Lookup, ...]:
    """Return what a record is found by, without reading all records."""
    found: list[tuple[LookupName, str | None]] = [(LookupName.EXTERNAL_ID, text_of(resource, "externalId"))]
    if kind is RecordKind.GROUP:
        found.append((LookupName.DISPLAY_NAME, _folded(text_of(resource, "displayName"))))
    else:
        emails = _objects(resource, "emails")[:MAX_EMAILS]
        found.append((LookupName.USER_NAME, _folded(text_of(resource, "userName"))))
        found.extend((LookupName.EMAIL, _folded(text_of(email, "value"))) for email in emails)
        found.extend((LookupName.PERSON, name) for name in names_of(resource))
    return tuple(sorted({Lookup(name, value) for name, value in found if value}))


def _objects(resource: Resource, name: str) -> list[Resource]:
    value = resource.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _folded(text: str | None) -> str | None:
    return None if text is None else fold(text)
