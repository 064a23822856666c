-- One digest of everything that a dry run must not change: catalogs of user schemas, state of pg-rehearsal, row counts
select md5(string_agg(line, e'\n' order by line)) as digest, count(*) as lines
from (
    select format('class %%s.%%s %%s %%s %%s %%s %%s %%s', n.nspname, c.relname, c.oid, c.relkind, c.relowner, c.relacl, c.reloptions,
                  pg_catalog.pg_relation_filenode(c.oid)) as line
    from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    union all
    select format('attribute %%s %%s %%s %%s %%s %%s', attrelid, attnum, attname, atttypid, attnotnull, attisdropped)
    from pg_catalog.pg_attribute where attrelid >= 16384 and attnum > 0
    union all
    select format('trigger %%s %%s %%s', tgrelid, tgname, tgenabled) from pg_catalog.pg_trigger
    union all
    select format('constraint %%s %%s %%s %%s', conrelid, conname, contype, convalidated) from pg_catalog.pg_constraint
    union all
    select format('function %%s %%s', oid, md5(prosrc)) from pg_catalog.pg_proc where oid >= 16384
    union all
    select format('rows %%s %%s %%s %%s', s.relid, s.n_tup_ins, s.n_tup_upd, s.n_tup_del) from pg_catalog.pg_stat_user_tables as s
    union all
    select format('migration %%s', m) from rehearsal.migration as m
    union all
    select format('step %%s', s) from rehearsal.step as s
    union all
    select format('change %%s %%s', c.name, c.checksum) from rehearsal.change as c
) as lines
