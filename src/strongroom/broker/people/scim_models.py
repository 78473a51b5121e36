"""What the SCIM server serves: users with the enterprise extension and ours, and groups.

Importing this needs the extra ``scim``.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    CaseExact,
    ChangePassword,
    EnterpriseUser,
    ETag,
    Extension,
    External,
    Filter,
    Group,
    Mutability,
    Patch,
    Reference,
    ResourceType,
    Returned,
    Schema,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    User,
)

from strongroom.broker.people.scim_users import PERSON_SCHEMA
from strongroom.personnel.lifecycle import Employment

ENTERPRISE_SCHEMA: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
MAX_RESULTS: Final = 100
"""Resources of one page: what is written into an answer is written on the event loop."""
MAX_OPERATIONS: Final = 100
MAX_BODY: Final = 256 * 1024


class PersonExtension(Extension):
    """How a user stands with Strongroom."""

    __schema__ = URN(PERSON_SCHEMA)

    person_id: Annotated[str | None, CaseExact.true] = None
    """The person's id in the roster."""
    employment: str | None = Field(None, examples=[kind.value for kind in Employment])
    """`active`, `leave`, `notice` or `left`; everything but `active` suspends the person."""
    case_ref: Annotated[str | None, Mutability.write_only, Returned.never, CaseExact.true] = None
    """An opaque reference into the vetting authority's files. It's never given back."""

    @classmethod
    def to_schema(cls) -> Schema:
        """Return the published schema: what can be read.

        ``caseRef`` is left out. A client that compares what it wrote into a whole extension with what it reads, as
        SCIM's own tester does, would take the missing reference for a fault; providers are told of it by hand.
        """
        schema = super().to_schema()
        readable = [attribute for attribute in schema.attributes or () if attribute.returned is not Returned.never]
        return schema.model_copy(update={"attributes": readable})


def make_provider() -> ScimProvider:
    """Return the description of the service."""
    user = ResourceType.from_resource(User[EnterpriseUser | PersonExtension])
    return ScimProvider(
        models=(User, Group, EnterpriseUser, PersonExtension),
        resource_types=(user, ResourceType.from_resource(Group)),
        config=ServiceProviderConfig(
            patch=Patch(supported=True),
            bulk=Bulk(supported=True, max_operations=MAX_OPERATIONS, max_payload_size=MAX_BODY),
            filter=Filter(supported=True, max_results=MAX_RESULTS),
            change_password=ChangePassword(supported=False),
            sort=Sort(supported=True),
            etag=ETag(supported=True),
            authentication_schemes=[
                AuthenticationScheme(
                    type=AuthenticationScheme.Type.oauthbearertoken,
                    name="bearer token",
                    description="A token made on the host: strongroom people scim-token",
                    spec_uri=Reference[External]("https://www.rfc-editor.org/rfc/rfc6750"),
                )
            ],
        ),
        # What large providers send and RFC 7644 doesn't allow: a refused deactivation would be access that stays.
        policy=ScimPolicy(
            unknown=ScimPolicy.Unknown.ignore,
            remove_value_as_filter=ScimPolicy.RemoveValue.apply,
            unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
        ),
    )
