-- How each column's values are told apart: natively where equal means identical, else by the type's send function.
-- portable: the digest must not depend on this database's object ids (enum labels, element types)
with recursive base (attnum, type, typmod) as (
    select a.attnum, a.atttypid, a.atttypmod
    from pg_catalog.pg_attribute as a
    where a.attrelid = %(oid)s::oid and a.attnum > 0 and not a.attisdropped
    union all
    select b.attnum, t.typbasetype, t.typtypmod
    from base as b
    join pg_catalog.pg_type as t on t.oid = b.type
    where t.typtype = 'd'
), typed as (
    select a.attname as name, pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.attnum,
           coalesce(c.collisdeterministic, true) as is_deterministic, t.typtype, t.typsend, b.typmod,
           case when tn.nspname = 'pg_catalog' then t.typname else '' end as base_name,
           pg_catalog.format_type(t.oid, -1) as base_type,
           pn.nspname as send_schema, p.proname as send_name
    from base as b
    join pg_catalog.pg_attribute as a on a.attrelid = %(oid)s::oid and a.attnum = b.attnum
    join pg_catalog.pg_type as t on t.oid = b.type and t.typtype <> 'd'
    join pg_catalog.pg_namespace as tn on tn.oid = t.typnamespace
    left join pg_catalog.pg_proc as p on p.oid = t.typsend
    left join pg_catalog.pg_namespace as pn on pn.oid = p.pronamespace
    left join pg_catalog.pg_collation as c on c.oid = a.attcollation
), judged as (
    select typed.*,
           (base_name in ('bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', 'char', 'bytea', 'uuid', 'date',
                          'time', 'timestamp', 'timestamptz') and is_deterministic)
           -- A declared scale is forced on every value, so 1.0 and 1.00 cannot both be there.
           or (base_name = 'numeric' and typmod >= 0)
           or (typtype = 'e' and not %(portable)s) as is_strict,
           base_name in ('text', 'varchar', 'bpchar', 'numeric', 'float4', 'float8', 'interval', 'json', 'jsonb',
                         'timetz', 'money', 'bit', 'varbit', 'inet', 'cidr', 'macaddr') as is_portable
    from typed
)
select name, type, base_name, base_type,
       case when not is_strict and send_name is not null and (is_portable or not %(portable)s)
            then array[send_schema, send_name]::text[] end as send,
       not is_strict and (send_name is null or (%(portable)s and not is_portable)) as as_text
from judged
order by attnum
