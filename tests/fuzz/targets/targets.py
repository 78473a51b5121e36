"""All fuzz targets, by name. Each returns or raises one of our errors; whatever else happens is a finding."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.documents import DOCUMENTS
from fuzz.targets.formats import FORMATS
from fuzz.targets.signed import SIGNED
from fuzz.targets.target import Target

TARGETS: Final[Mapping[str, Target]] = MappingProxyType({**FORMATS, **DOCUMENTS, **SIGNED})
