"""The registry in the plan's database, and the mark of the environment. Needs the migrating role only."""

import hashlib
from pathlib import Path

from pyinfra import host, state

from fleet import operations
from fleet.psql import database_name, literal, session

data = host.data
migrator, database = session(data, "migrator"), database_name(data)

registry = (Path(state.cwd or ".") / "sql" / "registry.sql").read_text(encoding="utf-8")
digest = hashlib.sha256(registry.encode()).hexdigest()[:12]
comment = f"State of pg-rehearsal: registry of changes, progress of migrations, change logs; registry {digest}"
operations.sql(
    name="Make the registry",
    session=migrator,
    unless=f"select obj_description(to_regnamespace('rehearsal'), 'pg_namespace') = {literal(comment)}",
    text=f"begin;\n{registry}\ncomment on schema rehearsal is {literal(comment)};\ncommit;\n",
)
kind = literal(data.env_kind)
operations.sql(
    name="Mark the database with the kind of its environment",
    session=migrator,
    unless=f"select kind = {kind} from rehearsal.environment_mark",
    refuse_if=None
    if data.get("remark")
    else (
        f"select kind from rehearsal.environment_mark where kind <> {kind}",
        (
            f"database {database} carries another mark than {data.env_kind}; if it is a clone, mark it anew with "
            "`invoke db.provision --remark`; its mark"
        ),
    ),
    text=(
        f"insert into rehearsal.environment_mark (kind) values ({kind})\n"
        "on conflict (only_one) do update set kind = excluded.kind, marked_at = now(), marked_by = current_user;\n"
    ),
)
