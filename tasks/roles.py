"""Roles, the plan's database, privileges; then the registry and the mark. Needs a superuser."""

from functools import partial

from pyinfra import host, local

from fleet import operations, rights
from fleet.passwords import passfile_text
from fleet.psql import database_name, ident, literal, session

data = host.data
superuser, migrator = session(data, "superuser"), session(data, "migrator")
database = database_name(data)
passwords = {data.db_migrator: data.db_migrator_password}
# Where the superuser is whoever runs psql on the database host, it has no password at all.
if data.get("db_superuser_password"):
    passwords[data.db_superuser] = data.db_superuser_password

operations.private_file(
    name="Write the password file of psql", path=data.passfile, text=partial(passfile_text, passwords)
)

# Before anything is changed: what not even a superuser should do without somebody's decision.
rights.asked(
    name="Look for what is for people to decide",
    session=superuser,
    names=rights.names_of(data),
    kinds=("owner",),
    must_see=False,
)
operations.role(
    name="Make the role that migrates",
    session=superuser.on("postgres"),
    role=data.db_migrator,
    password=data.db_migrator_password,
    attributes="login createdb",
)
operations.role(
    name="Make the role of the app",
    session=superuser.on("postgres"),
    role=data.db_app_role,
    password=data.db_app_password,
)
for name, attributes, groups in (
    # The exporter keeps a session in each database.
    ("monitor", "login connection limit 20", "pg_monitor"),
    ("parity", "login", "pg_read_all_data"),
):
    # Roles that an inventory does not name are somebody else's business.
    if data.get(f"db_{name}_role"):
        operations.role(
            name=f"Make the {name} role, which can only read",
            session=superuser.on("postgres"),
            role=data.get(f"db_{name}_role"),
            password=data.get(f"db_{name}_password"),
            attributes=attributes,
        )
        member = literal(data.get(f"db_{name}_role"))
        operations.sql(
            name=f"Let the {name} role read what it needs, and write nothing",
            session=superuser.on("postgres"),
            unless=(
                f"select pg_has_role({member}, '{groups}', 'member') and 'default_transaction_read_only=on'"
                f" = any (rolconfig) from pg_roles where rolname = {member}"
            ),
            text=(
                f"grant {groups} to {ident(data.get(f'db_{name}_role'))};\n"
                f"alter role {ident(data.get(f'db_{name}_role'))} set default_transaction_read_only = on;\n"
            ),
        )

role = literal(data.db_migrator)
operations.sql(
    name="Let the migrating role see who waits for whom",
    session=superuser.on("postgres"),
    unless=f"select pg_has_role({role}, 'pg_monitor', 'member')",
    text=f"grant pg_monitor to {ident(data.db_migrator)};",
)
# Before PostgreSQL 15 only a superuser may set these, and there is nothing to grant; the engine then does without.
can_grant = "select current_setting('server_version_num')::int >= 150000 as can_grant \\gset\n\\if :can_grant\n"
operations.sql(
    name="Let the migrating role set what its locks and copies need",
    session=superuser.on("postgres"),
    unless=(
        f"{can_grant}select has_parameter_privilege({role}, 'session_replication_role', 'set')"
        f" and has_parameter_privilege({role}, 'deadlock_timeout', 'set');\n\\else\nselect true;\n\\endif"
    ),
    text=(
        f"{can_grant}grant set on parameter session_replication_role, deadlock_timeout to {ident(data.db_migrator)};\n"
        "\\endif\n"
    ),
)
if data.get("reset"):
    operations.dropped_database(
        name="Drop the plan's database", session=superuser.on("postgres"), database=database, kind=data.env_kind
    )
operations.database(
    name="Make the plan's database", session=superuser.on("postgres"), database=database, owner=data.db_migrator
)
if settings := data.get("db_app_settings"):
    place = f"role {ident(data.db_app_role)} in database {ident(database)}"
    wanted = ", ".join(literal(f"{name}={value}") for name, value in settings.items())
    operations.sql(
        name="Give the app's role its settings in the plan's database",
        session=superuser.on("postgres"),
        unless=(
            f"select setconfig @> array[{wanted}] from pg_db_role_setting as s"
            " join pg_database as d on d.oid = s.setdatabase"
            f" where d.datname = {literal(database)} and s.setrole = {literal(data.db_app_role)}::regrole"
        ),
        text="".join(f"alter {place} set {ident(name)} = {literal(value)};\n" for name, value in settings.items()),
    )
operations.sql(
    name="Count statements in the plan's database",
    session=superuser,
    unless=(
        "select exists (select from pg_extension where extname = 'pg_stat_statements')"
        " or not exists (select from pg_available_extensions where name = 'pg_stat_statements')"
        # Where it is not loaded, each look at it would be an error.
        " or current_setting('shared_preload_libraries') !~ '\\mpg_stat_statements\\M'"
    ),
    text="create extension if not exists pg_stat_statements schema public;",
)
app, owner = ident(data.db_app_role), ident(data.db_migrator)
operations.sql(
    name="Let the app use what the migrating role makes",
    session=superuser,
    unless=(
        f"select has_schema_privilege({role}, 'public', 'create')"
        f" and has_schema_privilege({literal(data.db_app_role)}, 'public', 'usage')"
        " and (select count(distinct d.defaclobjtype) = 2 from pg_default_acl as d, aclexplode(d.defaclacl) as a"
        f" where d.defaclrole = {role}::regrole and d.defaclnamespace = 'public'::regnamespace"
        f" and a.grantee = {literal(data.db_app_role)}::regrole)"
    ),
    text=(
        f"grant usage, create on schema public to {owner};\ngrant usage on schema public to {app};\n"
        f"alter default privileges for role {owner} in schema public\n"
        f"    grant select, insert, update, delete on tables to {app};\n"
        f"alter default privileges for role {owner} in schema public grant usage, select on sequences to {app};\n"
    ),
)

rights.given(name="Give the migrating role what the plan needs", session=superuser, names=rights.names_of(data))
rights.asked(name="Look for what the migrating role cannot do", session=superuser, names=rights.names_of(data))
local.include("tasks/registry.py")
