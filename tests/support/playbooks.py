"""Small playbooks for tests, as JSON that can be spoiled member by member."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from strongroom.response.cacao import EXTENSION, Playbook, read_playbook

IDS = "--00000000-0000-4000-8000-0000000000{:02x}"
AGENT = "organization" + IDS.format(1)
MAKER = "identity" + IDS.format(2)


def sid(kind: str, number: int) -> str:
    return kind + IDS.format(number)


def act(then: str, action: str = "notify", **more: Any) -> dict[str, Any]:
    return {
        "type": "action",
        "commands": [{"type": "strongroom"}],
        "agent": AGENT,
        "step_extensions": {EXTENSION: {"action": action, "subject": "__model__:value"}},
        **({"on_completion": then} if then else {}),
        **more,
    }


def ask(then: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "action",
        "commands": [{"type": "manual", "command": "Look."}],
        "agent": AGENT,
        "out_args": ["__said__"],
        **({"on_completion": then} if then else {}),
        **more,
    }


def document(steps: Mapping[str, Any], *, number: int = 9, **more: Any) -> dict[str, Any]:
    start = next(name for name in steps if name.startswith("start"))
    return {
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": sid("playbook", number),
        "name": f"p{number}",
        "description": "one of a test",
        "created_by": MAKER,
        "created": "2026-11-01T00:00:00.000Z",
        "modified": "2026-11-01T00:00:00.000Z",
        "playbook_variables": {
            "__model__": {"type": "string", "description": "model", "value": "", "external": True},
            "__said__": {"type": "string", "description": "said", "value": "no"},
        },
        "workflow_start": start,
        "workflow": dict(steps),
        "agent_definitions": {AGENT: {"type": "organization", "name": "us"}},
        "extension_definitions": {
            EXTENSION: {
                "type": "extension-definition",
                "name": "x",
                "description": "x",
                "created_by": MAKER,
                "schema": "x",
                "version": "1.0.0",
            }
        },
        **more,
    }


def playbook(steps: Mapping[str, Any], **more: Any) -> Playbook:
    return read_playbook(json.dumps(document(steps, **more)).encode())


START, END, A, B, C = sid("start", 16), sid("end", 17), sid("action", 18), sid("action", 19), sid("action", 20)
