"""What stands beside the broker: other processes and folders of the deployment that a console was given to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.console.assessments import AssessmentShelf
from strongroom.console.deliveries import DeliveryShelf
from strongroom.responder.reading import DeskReader
from strongroom.response.cacao import Playbook


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What this console was given. None: it wasn't given that, and the page for it says how to give it."""

    incidents: DeskReader | None = None
    """The responder's desk."""
    assessments: AssessmentShelf | None = None
    """Where the newest assessment is kept."""
    deliveries: DeliveryShelf | None = None
    """Where the folders of deliveries lie."""
    playbooks: Mapping[str, Playbook] = field(default_factory=dict)
    """The playbooks that come with the program, by their ids."""
