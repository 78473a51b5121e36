"""Identifiers. Each has its own type, so that a person can't be passed where a model is meant."""

from __future__ import annotations

import re
from typing import Final, NewType

from strongroom.core.errors import MalformedError

ModelId = NewType("ModelId", str)
PersonId = NewType("PersonId", str)
PlatformId = NewType("PlatformId", str)
"""An enrolled platform: ``tpm-`` and the hex of its attestation key's TPM name, or a chip's kind and digest."""
KeyId = NewType("KeyId", str)
ImageId = NewType("ImageId", str)
"""An enclave image: what reference values describe."""

_PLATFORM: Final = re.compile(r"(?:tpm|sev-snp|tdx|sgx|nitro|azure-snp-vtpm|azure-tdx-vtpm)-[0-9a-f]{64}")
_INCIDENT: Final = re.compile(r"inc-[0-9a-f]{32}")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


SHADOW: Final = "shadow-"
"""How the names of a drill's stand-ins begin. Nothing real is called so: a drill could hide it, or harm it."""


def _real_name(text: str, kind: str) -> str:
    if text.startswith(SHADOW):
        raise MalformedError(f"a {kind} doesn't begin with `{SHADOW}`: so are stand-ins of drills called")
    return _name(text, kind)


def _name(text: str, kind: str) -> str:
    # No slash, no space, no leading dot, one case: an id is also a path segment and a Cedar entity id.
    if not _NAME.fullmatch(text) or ".." in text:
        raise MalformedError(
            f"a {kind} is 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, beginning and ending with a letter or digit"
        )
    return text


def model_id(text: str) -> ModelId:
    """Check and return a model's name, e.g. ``atlas-7b``."""
    return ModelId(_real_name(text, "model name"))


def person_id(text: str) -> PersonId:
    """Check and return a person's id, e.g. ``dana``."""
    return PersonId(_real_name(text, "person's id"))


def image_id(text: str) -> ImageId:
    """Check and return an enclave image's id, e.g. ``embedder``."""
    return ImageId(_name(text, "image id"))


def platform_id(text: str) -> PlatformId:
    """Check and return an enrolled platform's id: its kind and 64 hex characters."""
    if not _PLATFORM.fullmatch(text):
        raise MalformedError("a platform id is `tpm-` (or a chip's kind, say `sev-snp-`) and 64 hex characters")
    return PlatformId(text)


def incident_name(text: str) -> str:
    """Check and return an incident's name; it is also a folder's, and so begins with nothing else.

    :raises MalformedError: another form.
    """
    if not _INCIDENT.fullmatch(text):
        raise MalformedError("an incident is called `inc-` and 32 hex digits")
    return text
