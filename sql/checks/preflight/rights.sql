-- What a switchover makes anew in the role's name, and lacks a right to: trigger functions, referenced tables, statistics
select 'trigger-function' as kind, p.oid::regprocedure::text as name, null::text as more
from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
where t.tgrelid = %(oid)s::oid and not t.tgisinternal and not pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
union
select 'referenced', con.confrelid::regclass::text, pg_catalog.pg_get_userbyid(r.relowner)
from pg_catalog.pg_constraint as con join pg_catalog.pg_class as r on r.oid = con.confrelid
where con.conrelid = %(oid)s::oid and con.contype = 'f' and con.confrelid <> con.conrelid
      and not (pg_catalog.has_any_column_privilege(r.oid, 'REFERENCES')
               and pg_catalog.has_table_privilege(r.oid, 'UPDATE, DELETE, TRUNCATE'))
union
select 'statistics', pg_catalog.format('%%I.%%I', n.nspname, s.stxname), pg_catalog.pg_get_userbyid(s.stxowner)
from pg_catalog.pg_statistic_ext as s join pg_catalog.pg_namespace as n on n.oid = s.stxnamespace
where s.stxrelid = %(oid)s::oid and not pg_catalog.pg_has_role(s.stxowner, 'USAGE')
order by 1, 2
