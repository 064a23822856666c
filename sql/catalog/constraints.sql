-- Checks and foreign keys of a table, and foreign keys of other tables that point at it
select con.conname as name, con.contype::text as kind, pg_catalog.pg_get_constraintdef(con.oid) as definition,
       con.convalidated as is_validated, con.conparentid <> 0 as is_inherited,
       con.conrelid = %(oid)s::oid as is_own,
       pg_catalog.obj_description(con.oid, 'pg_constraint') as comment,
       n.nspname as other_schema, c.relname as other_name
from pg_catalog.pg_constraint as con
left join pg_catalog.pg_class as c
    on c.oid = case when con.conrelid = %(oid)s::oid then nullif(con.confrelid, 0) else con.conrelid end
left join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where (con.conrelid = %(oid)s::oid or con.confrelid = %(oid)s::oid) and con.contype in ('c', 'f')
order by con.contype, con.conname
