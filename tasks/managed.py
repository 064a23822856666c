"""A database that somebody else runs: no superuser, perhaps no host to log in to. What needs one is named, not done.

psql runs on the host of the group `database`, which may be this machine (`@process/NAME`).
"""

from pyinfra import host, local

from fleet import operations, recorder
from fleet.passwords import resolve
from fleet.psql import database_name, ident, literal, session

data = host.data
migrator, database = session(data, "migrator"), database_name(data)
password = resolve(data.db_migrator_password).replace("\\", "\\\\").replace(":", "\\:")
role, app = literal(data.db_migrator), literal(data.db_app_role)

recorder.report(
    skipped=[
        f"make the roles {data.db_migrator} and {data.db_app_role}, with their passwords",
        f"make the database {database}",
        f"grant pg_monitor and pg_signal_backend to {data.db_migrator}, to see and end sessions",
        f"grant set on parameter session_replication_role and deadlock_timeout to {data.db_migrator}",
        "create extension pg_stat_statements",
        *(
            f"alter role {data.db_app_role} in database {database} set {name} = {value}"
            for name, value in (data.get("db_app_settings") or {}).items()
        ),
    ]
)
operations.private_file(
    name="Write the password file of psql", path=data.passfile, text=f"*:*:*:{data.db_migrator}:{password}\n"
)
operations.can(
    name="Check what the migrating role can do",
    session=migrator,
    wanted={
        f"role {data.db_app_role} is there": f"exists (select from pg_roles where rolname = {app})",
        "it may create schemas": f"has_database_privilege({role}, current_database(), 'create')",
        "it may create tables": f"has_schema_privilege({role}, 'public', 'create')",
        "the app may use the schema": (
            "coalesce((select has_schema_privilege(oid, 'public', 'usage') from pg_roles "
            f"where rolname = {app}), false)"
        ),
    },
)
owner = ident(data.db_app_role)
operations.sql(
    name="Let the app use what the migrating role makes",
    session=migrator,
    unless=(
        "select count(distinct d.defaclobjtype) = 2 from pg_default_acl as d, aclexplode(d.defaclacl) as a"
        f" where d.defaclrole = {role}::regrole and d.defaclnamespace = 'public'::regnamespace"
        f" and a.grantee = {app}::regrole"
    ),
    text=(
        f"alter default privileges in schema public grant select, insert, update, delete on tables to {owner};\n"
        f"alter default privileges in schema public grant usage, select on sequences to {owner};\n"
    ),
)
local.include("tasks/registry.py")
