"""RAND's levels as a library of CISO Assistant: measures as requirements, levels as implementation groups.

How each measure stands here is in its annotation; whoever imports the library sets states there, and they stay theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import yaml

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.reports.words import STATES
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.printable import printable
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.measures import Measure, MeasureCategory

FILE: Final = "ciso-assistant.yaml"
_NAME: Final = "rand-security-levels"
_NODE: Final = f"urn:strongroom:risk:req_node:{_NAME}:"
_TITLE: Final = "RAND Security Levels for AI model weights"


def as_ciso(assessment: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return the library."""
    about = "Measures of RAND's Security Levels SL1 to SL5, in our own words."
    library: Json = {
        "urn": f"urn:strongroom:risk:library:{_NAME}",
        "locale": "en",
        "ref_id": "RAND-SL",
        "name": _TITLE,
        "description": about,
        "copyright": catalogue.citation.line(),
        # Of one version CISO Assistant takes a library once, of a lower one never: each report is newer than the last.
        "version": assessment.at // 60,
        "provider": "RAND Corporation",
        "packager": "strongroom",
        "objects": {
            "framework": {
                "urn": f"urn:strongroom:risk:framework:{_NAME}",
                "ref_id": "RAND-SL",
                "name": _TITLE,
                "description": about,
                "implementation_groups_definition": [
                    {"ref_id": level.id.value, "name": level.id.value, "description": level.goal}
                    for level in catalogue.levels.values()
                ],
                "requirement_nodes": [*_nodes(assessment, catalogue)],
            }
        },
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return {FILE: yaml.dump(library, Dumper=dumper, allow_unicode=True, sort_keys=False).encode()}


def _nodes(assessment: Assessment, catalogue: Catalogue) -> Iterator[Json]:
    for category in MeasureCategory:
        parent = _NODE + category.name.lower().replace("_", "-")
        yield {"urn": parent, "assessable": False, "depth": 1, "ref_id": category.name, "name": category.value}
        for measure in catalogue.measures_in(category):
            yield {
                "urn": _NODE + measure.id.lower(),
                "assessable": True,
                "depth": 2,
                "parent_urn": parent,
                "ref_id": measure.id,
                "name": measure.name,
                "description": measure.description,
                "annotation": printable(_stands(measure, assessment)),
                # A level takes the measures of all below it.
                "implementation_groups": [one.value for one in SecurityLevel if one.rank >= measure.level.rank],
            }


def _stands(measure: Measure, assessment: Assessment) -> str:
    finding = assessment.findings[measure.id]
    return f"{assessment.deployment}, {format_instant(assessment.at)}: {STATES[finding.state]}; {finding.why}"
