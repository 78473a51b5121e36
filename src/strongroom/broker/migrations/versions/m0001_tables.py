"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("envelope", sa.Text(), nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("expires", sa.Integer()),
        sa.Column("closed", sa.Integer()),
        sa.Column("log_index", sa.Integer()),
        sa.Column("checkpoint", sa.Text()),
    )
    op.create_index("requests_by_created", "requests", ["created", "digest"])
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("request", sa.Text(), sa.ForeignKey("requests.digest"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.Integer()),
        sa.Column("checkpoint", sa.Text()),
    )
    op.create_index("approvals_by_request", "approvals", ["request"])
    op.create_table(
        "platforms",
        sa.Column("platform", sa.Text(), primary_key=True),
        sa.Column("envelope", sa.Text(), nullable=False),
    )
    op.create_table(
        "manifests",
        sa.Column("model", sa.Text(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("log_index", sa.Integer()),
        sa.Column("checkpoint", sa.Text()),
    )
    op.create_table(
        "wrapped_keys",
        sa.Column("data_key", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("wrapped_keys_by_model", "wrapped_keys", ["model", "version"])


def downgrade() -> None:
    for table in ("wrapped_keys", "manifests", "platforms", "approvals", "requests", "documents"):
        op.drop_table(table)
