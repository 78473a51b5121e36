"""The tables, as code sees them. Migrations make them; a test compares both.

Every row may have been written by an attacker. What a table holds is signed or wrapped elsewhere.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Table, Text

METADATA: Final = MetaData()

documents: Final = Table(
    "documents",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("digest", Text, primary_key=True),
    Column("envelope", Text, nullable=False),
)

requests: Final = Table(
    "requests",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("expires", Integer),
    Column("closed", Integer),
    Column("log_index", Integer),
    Column("checkpoint", Text),
    Index("requests_by_created", "created", "digest"),
)

approvals: Final = Table(
    "approvals",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request", Text, ForeignKey("requests.digest"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("log_index", Integer),
    Column("checkpoint", Text),
    Index("approvals_by_request", "request"),
)

platforms: Final = Table(
    "platforms",
    METADATA,
    Column("platform", Text, primary_key=True),
    Column("envelope", Text, nullable=False),
)

manifests: Final = Table(
    "manifests",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("log_index", Integer),
    Column("checkpoint", Text),
)

wrapped_keys: Final = Table(
    "wrapped_keys",
    METADATA,
    Column("data_key", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index("wrapped_keys_by_model", "model", "version"),
)
