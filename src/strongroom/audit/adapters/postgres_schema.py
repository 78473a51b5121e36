"""The SQL of the log's PostgreSQL store: its tables, how they are told from others, and the one statement of a commit.

The tables are those of the SQLite store, and the epoch of the lease beside the tree head. Each shard has a schema of
its own: what is written here for the first one's is said of another's by :func:`of_shard`.
"""

from __future__ import annotations

from typing import Final

LEASE: Final = 0x5374726F6E67
"""The advisory lock that the log writer of a database holds."""
CREATE: Final = (
    "CREATE SCHEMA strongroom_log",
    "REVOKE ALL ON SCHEMA strongroom_log FROM PUBLIC",
    "CREATE TABLE strongroom_log.entry (i bigint PRIMARY KEY, d bytea NOT NULL)",
    """CREATE TABLE strongroom_log.head (one integer PRIMARY KEY CHECK (one = 1), size bigint NOT NULL,
       frontier bytea NOT NULL, epoch bigint NOT NULL)""",
    # The primary key is the rule that no size is ever signed twice.
    "CREATE TABLE strongroom_log.checkpoint (size bigint PRIMARY KEY, note bytea NOT NULL)",
    # What is stored is JSON of a few hundred bytes and is never searched: compressing it costs more than it saves.
    "ALTER TABLE strongroom_log.entry ALTER COLUMN d SET STORAGE EXTERNAL",
    "INSERT INTO strongroom_log.head VALUES (1, 0, '', 0)",
)

DESCRIBE: Final = """
WITH relation AS (
  SELECT c.* FROM pg_class c WHERE c.relnamespace = to_regnamespace('strongroom_log') AND c.relkind NOT IN ('t')
), said AS (
  SELECT format('%s %s %s %s%s%s %s', c.relkind, c.relname, c.relpersistence, c.relrowsecurity,
                c.relforcerowsecurity, c.relispartition, coalesce(a.amname, '-')) AS line
    FROM relation c LEFT JOIN pg_am a ON a.oid = c.relam
  UNION ALL
  SELECT format('column %s.%s %s %s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                a.atthasdef, a.attidentity, a.attgenerated)
    FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'r' AND a.attnum > 0
  UNION ALL
  SELECT format('constraint %s %s', c.relname, pg_get_constraintdef(k.oid))
    FROM relation c JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype <> 'n'
  UNION ALL
  SELECT format('index %s %s%s', c.relname, x.indisvalid, x.indisunique)
    FROM relation c JOIN pg_index x ON x.indexrelid = c.oid
  UNION ALL
  SELECT format('trigger %s', t.tgname) FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid
  UNION ALL
  SELECT format('rule %s', r.rulename) FROM pg_rewrite r JOIN relation c ON c.oid = r.ev_class
  UNION ALL
  SELECT format('policy %s', p.polname) FROM pg_policy p JOIN relation c ON c.oid = p.polrelid
  UNION ALL
  SELECT format('inherits %s', i.inhrelid) FROM pg_inherits i JOIN relation c ON c.oid IN (i.inhrelid, i.inhparent)
  UNION ALL
  SELECT format('function %s', f.proname) FROM pg_proc f WHERE f.pronamespace = to_regnamespace('strongroom_log')
)
SELECT coalesce(string_agg(line, E'\\n' ORDER BY line COLLATE "C"), '') FROM said
"""
"""What stands in our schema: all that could change what is written, or lose it. Empty where there is no schema."""

DESCRIPTION: Final = """\
column checkpoint.note bytea tf
column checkpoint.size bigint tf
column entry.d bytea tf
column entry.i bigint tf
column head.epoch bigint tf
column head.frontier bytea tf
column head.one integer tf
column head.size bigint tf
constraint checkpoint PRIMARY KEY (size)
constraint entry PRIMARY KEY (i)
constraint head CHECK ((one = 1))
constraint head PRIMARY KEY (one)
i checkpoint_pkey p fff btree
i entry_pkey p fff btree
i head_pkey p fff btree
index checkpoint_pkey tt
index entry_pkey tt
index head_pkey tt
r checkpoint p fff heap
r entry p fff heap
r head p fff heap"""

SETTINGS: Final = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")
BETWEEN: Final = "\x1f"
CIRCUMSTANCES: Final = f"""concat_ws(E'\\x1f',
  (SELECT system_identifier FROM pg_control_system()),
  (SELECT oid FROM pg_database WHERE datname = current_database()),
  substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
  to_regclass('strongroom_log.entry')::oid,
  to_regclass('strongroom_log.head')::oid,
  to_regclass('strongroom_log.checkpoint')::oid,
  {", ".join(f"current_setting('{name}')" for name in SETTINGS)})"""  # noqa: S608 - our own names alone
"""Which cluster, database, timeline and tables these are, then how the server syncs: what may not change while open."""

COMMIT: Final = f"""
WITH moved AS (
  UPDATE strongroom_log.head SET size = %(size)s, frontier = %(frontier)s
   WHERE one = 1 AND size = %(before)s AND frontier = %(frontier_before)s AND epoch = %(epoch)s
     AND {CIRCUMSTANCES} = %(circumstances)s
  RETURNING one
), written AS (
  INSERT INTO strongroom_log.entry
  SELECT stored.i, stored.d FROM moved, unnest(%(indexes)s::bigint[], %(entries)s::bytea[]) AS stored(i, d)
), signed AS (
  INSERT INTO strongroom_log.checkpoint SELECT %(size)s::bigint, %(note)s::bytea FROM moved
)
SELECT count(*)::integer FROM moved
"""  # noqa: S608 - our own expression, compared with a parameter
"""One statement, so one round trip and one transaction: nothing is inserted where the head didn't move."""

_FIRST: Final = "strongroom_log"


def of_shard(sql: str, shard: int) -> str:
    """Return a statement of this module as it is for a shard (counted from 1)."""
    return sql if shard == 1 else sql.replace(_FIRST, f"{_FIRST}_{int(shard)}")
