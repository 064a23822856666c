"""A database that somebody else runs: no superuser, perhaps no host to log in to. What needs one is asked for first.

psql runs on the host of the group `database`, which may be this machine (`@process/NAME`).
"""

from functools import partial

from pyinfra import host, local

from fleet import operations, rights
from fleet.passwords import passfile_text
from fleet.psql import database_name, ident, literal, session

data = host.data
migrator, database = session(data, "migrator"), database_name(data)
role, app = literal(data.db_migrator), literal(data.db_app_role)

operations.private_file(
    name="Write the password file of psql",
    path=data.passfile,
    text=partial(passfile_text, {data.db_migrator: data.db_migrator_password}),
)
rights.asked(name="Look for what the migrating role cannot do", session=migrator, names=rights.names_of(data))
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
