-- Triggers of a table that people made, with their state
select t.tgname as name, t.tgenabled::text as enabled, pg_catalog.pg_get_triggerdef(t.oid) as definition,
       p.proname as function_name, t.tgparentid <> 0 as is_inherited
from pg_catalog.pg_trigger as t
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
where t.tgrelid = %(oid)s::oid and not t.tgisinternal
order by t.tgname
