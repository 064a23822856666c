-- What hangs on a table and is made anew on its target: one JSON object, a key for each kind
with it as (
    select c.*, pg_catalog.format('%%I.%%I', n.nspname, c.relname) as qualified
    from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.oid = %(oid)s::oid
), columns as (
    select a.* from pg_catalog.pg_attribute as a
    where a.attrelid = %(oid)s::oid and a.attnum > 0 and not a.attisdropped
), grants as (
    select null::name as "column", x.* from it, pg_catalog.aclexplode(it.relacl) as x
    union all
    select c.attname, x.* from columns as c, pg_catalog.aclexplode(c.attacl) as x
), grouped as (
    select "column", string_agg(lower(privilege_type), ', ' order by privilege_type) as privileges,
           case when grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) end as grantee,
           is_grantable as grantable, lower(privilege_type) as privilege
    from grants group by "column", grantee, is_grantable, lower(privilege_type)
), triggers as (
    select t.tgname as name, t.tgenabled::text as enabled, t.tgparentid <> 0 as is_inherited,
           pg_catalog.obj_description(t.oid, 'pg_trigger') as comment,
           pg_catalog.substr(pg_catalog.pg_get_triggerdef(t.oid), 1, pg_catalog.strpos(pg_catalog.pg_get_triggerdef(t.oid), q.head) - 1)
               || q.head as head,
           pg_catalog.substr(pg_catalog.pg_get_triggerdef(t.oid),
               pg_catalog.strpos(pg_catalog.pg_get_triggerdef(t.oid), q.head) + pg_catalog.length(q.head)) as rest,
           ' ON ' || it.qualified || ' ' as place
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_proc as p on p.oid = t.tgfoid
    cross join it
    cross join lateral (select pg_catalog.format('TRIGGER %%I ', t.tgname) as head) as q
    where t.tgrelid = %(oid)s::oid and not t.tgisinternal and p.pronamespace is distinct from pg_catalog.to_regnamespace('rehearsal')
)
select pg_catalog.jsonb_build_object(
    'forced', (select it.relforcerowsecurity from it),
    'tablespace', (select s.spcname from it join pg_catalog.pg_tablespace as s on s.oid = it.reltablespace),
    'toast_options', (select coalesce(pg_catalog.to_jsonb(t.reloptions), '[]') from it left join pg_catalog.pg_class as t on t.oid = it.reltoastrelid),
    'default_grantees', (select coalesce(pg_catalog.jsonb_agg(distinct case when x.grantee = 0 then 'public'
                                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end), '[]')
                         from it join pg_catalog.pg_default_acl as d on d.defaclobjtype = 'r' and d.defaclrole = current_user::regrole
                                                                    and d.defaclnamespace in (0, it.relnamespace)
                         cross join pg_catalog.aclexplode(d.defaclacl) as x where x.grantee <> d.defaclrole),
    'has_grants', (select it.relacl is not null from it),
    'grants', (select coalesce(pg_catalog.jsonb_agg(g order by g."column" nulls first, g.grantee, g.grantable, g.privilege), '[]') from grouped as g),
    'column_statistics', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('column', c.attname, 'target', c.attstattarget)
                                                               order by c.attnum), '[]')
                          from columns as c where c.attstattarget >= 0),
    -- Those that people set: servers may keep notes of their own among them.
    'column_options', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('column', c.attname, 'options', o.options)
                                                            order by c.attnum), '[]')
                       from columns as c, lateral (
                           select pg_catalog.array_agg(one order by one) as options
                           from pg_catalog.unnest(c.attoptions) as one where one ~ '^n_distinct'
                       ) as o where o.options is not null),
    'checks', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', c.conname, 'valid', c.convalidated,
                   'definition', pg_catalog.pg_get_constraintdef(c.oid)) order by c.conname), '[]')
               from pg_catalog.pg_constraint as c where c.conrelid = %(oid)s::oid and c.contype = 'c'),
    'constraint_comments', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', c.conname, 'kind', c.contype,
                                'comment', pg_catalog.obj_description(c.oid, 'pg_constraint')) order by c.conname), '[]')
                            from pg_catalog.pg_constraint as c
                            where c.conrelid = %(oid)s::oid and pg_catalog.obj_description(c.oid, 'pg_constraint') is not null),
    'policies', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                     'name', p.polname, 'kind', case when p.polpermissive then 'permissive' else 'restrictive' end,
                     'command', case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
                     'roles', (select string_agg(case when r = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)) end, ', ' order by r)
                               from unnest(p.polroles) as r),
                     'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid),
                     'own', coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '') like '%%:relid ' || p.polrelid || ' %%',
                     'comment', pg_catalog.obj_description(p.oid, 'pg_policy')) order by p.polname), '[]')
                 from pg_catalog.pg_policy as p where p.polrelid = %(oid)s::oid),
    'triggers', (select coalesce(pg_catalog.jsonb_agg(t order by t.name), '[]') from triggers as t),
    'statistics', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                       'schema', n.nspname, 'name', s.stxname, 'columns', pg_catalog.pg_get_statisticsobjdef_columns(s.oid),
                       'kinds', (select string_agg(case k::text when 'd' then 'ndistinct' when 'f' then 'dependencies' when 'm' then 'mcv' end, ', ' order by k::text)
                                 from unnest(s.stxkind) as k where k <> 'e'),
                       'target', s.stxstattarget, 'owner', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(s.stxowner)),
                       'comment', pg_catalog.obj_description(s.oid, 'pg_statistic_ext')) order by s.stxname), '[]')
                   from pg_catalog.pg_statistic_ext as s join pg_catalog.pg_namespace as n on n.oid = s.stxnamespace
                   where s.stxrelid = %(oid)s::oid),
    'indexes', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', i.relname, 'comment', pg_catalog.obj_description(i.oid, 'pg_class'),
                    'is_clustered', x.indisclustered, 'is_replica_identity', x.indisreplident,
                    'statistics', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('number', a.attnum, 'target', a.attstattarget)
                                                                        order by a.attnum), '[]')
                                   from pg_catalog.pg_attribute as a where a.attrelid = i.oid and a.attstattarget >= 0)) order by i.relname), '[]')
                from pg_catalog.pg_index as x join pg_catalog.pg_class as i on i.oid = x.indexrelid where x.indrelid = %(oid)s::oid)
) as carried
