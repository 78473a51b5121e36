"""All fuzz targets, by name. Each returns or raises one of our errors; whatever else happens is a finding."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.anchors import ANCHORS
from fuzz.targets.assurance import ASSURANCE
from fuzz.targets.attributions import ATTRIBUTIONS
from fuzz.targets.audits import AUDITS
from fuzz.targets.backups import BACKUPS
from fuzz.targets.bundles import BUNDLES
from fuzz.targets.copies import COPIES
from fuzz.targets.destructions import DESTRUCTIONS
from fuzz.targets.detection import DETECTION
from fuzz.targets.documents import DOCUMENTS
from fuzz.targets.drops import DROPS
from fuzz.targets.egress import EGRESS
from fuzz.targets.escrow import ESCROW
from fuzz.targets.formats import FORMATS
from fuzz.targets.gateway import GATEWAY
from fuzz.targets.installed import INSTALLED
from fuzz.targets.intake import INTAKE
from fuzz.targets.keys import KEYS
from fuzz.targets.log_reading import LOG_READING
from fuzz.targets.machines import MACHINES
from fuzz.targets.response import RESPONSE
from fuzz.targets.signed import SIGNED
from fuzz.targets.target import Target
from fuzz.targets.witnesses import WITNESSES

TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        **ANCHORS,
        **ASSURANCE,
        **ATTRIBUTIONS,
        **AUDITS,
        **BACKUPS,
        **BUNDLES,
        **FORMATS,
        **COPIES,
        **DETECTION,
        **DOCUMENTS,
        **SIGNED,
        **GATEWAY,
        **INSTALLED,
        **INTAKE,
        **DROPS,
        **EGRESS,
        **DESTRUCTIONS,
        **ESCROW,
        **KEYS,
        **LOG_READING,
        **MACHINES,
        **RESPONSE,
        **WITNESSES,
    }
)
