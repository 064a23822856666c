-- Everything that a table is, as rows (subject, facet, text), free of the names of leaves and of pg-rehearsal's own objects.
-- What is stored with the rows (options, statistics targets, ...) is read where the rows are: from each leaf, all of which
-- must agree; where they do not, their values stand side by side.
with it as (
    select c.*, n.nspname, pg_catalog.format('%%I.%%I', n.nspname, c.relname) as qualified
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.oid = %(oid)s::oid
), part as (
    select c.* from pg_catalog.pg_partition_tree(%(oid)s::oid) as t join pg_catalog.pg_class as c on c.oid = t.relid
    where t.isleaf
    union all
    select c.* from pg_catalog.pg_class as c where c.oid = %(oid)s::oid and c.relkind <> 'p'
), whole as (
    select oid, relowner, relreplident, relkind from it union select oid, relowner, relreplident, relkind from part
), named as (
    -- By name, never by a cast of all names to regclass: that looks into schemas on which the role lacks USAGE.
    select n.nspname, c.relname from whole as w join pg_catalog.pg_class as c on c.oid = w.oid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
), replica as (
    select w.oid,
           case w.relreplident when 'd' then 'default' when 'f' then 'full' when 'n' then 'nothing'
           else 'index ' || coalesce((
               select '"' || pg_catalog.replace(coalesce(pi.relname, i.relname), '"', '""') || '"'
               from pg_catalog.pg_index as x
               join pg_catalog.pg_class as i on i.oid = x.indexrelid
               left join pg_catalog.pg_inherits as h on h.inhrelid = x.indexrelid
               left join pg_catalog.pg_class as pi on pi.oid = h.inhparent
               where x.indrelid = w.oid and x.indisreplident), 'gone') end as said
    from whole as w
), columns as (
    select a.*, row_number() over (order by a.attnum) as place
    from pg_catalog.pg_attribute as a where a.attrelid = %(oid)s::oid and a.attnum > 0 and not a.attisdropped
), acl as (
    select '' as col, x.* from it, pg_catalog.aclexplode(coalesce(it.relacl, pg_catalog.acldefault('r', it.relowner))) as x
    union all
    select pg_catalog.format(' (%%I)', c.attname), x.* from columns as c, pg_catalog.aclexplode(c.attacl) as x
), seq as (
    select a.attname, d.deptype, s.*, sn.nspname, q.seqtypid, q.seqstart, q.seqincrement, q.seqmax, q.seqmin, q.seqcache, q.seqcycle
    from columns as a
    join pg_catalog.pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
                                      and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    join pg_catalog.pg_class as s on s.oid = d.objid and s.relkind = 'S'
    join pg_catalog.pg_namespace as sn on sn.oid = s.relnamespace
    join pg_catalog.pg_sequence as q on q.seqrelid = s.oid
), con as (
    select c.*, case c.contype when 'p' then 'primary key' when 'u' then 'unique constraint' when 'x' then 'exclusion constraint'
                when 'c' then 'check' when 'f' then 'foreign key' when 'n' then 'not null' else 'constraint ' || c.contype::text end
                || ' "' || pg_catalog.replace(c.conname, '"', '""') || '"' as subject
    from pg_catalog.pg_constraint as c
    where c.conrelid = %(oid)s::oid and c.contype <> 't' and c.conparentid = 0
), ind as (
    select i.oid, i.relname, i.relnatts, i.relkind, x.*, 'index "' || pg_catalog.replace(i.relname, '"', '""') || '"' as subject,
           pg_catalog.substr(pg_catalog.pg_get_indexdef(i.oid), 1 + pg_catalog.strpos(pg_catalog.pg_get_indexdef(i.oid),
               pg_catalog.format('INDEX %%I ON %%s%%s USING ', i.relname, case when i.relkind = 'I' then 'ONLY ' else '' end, it.qualified))
               + pg_catalog.length(pg_catalog.format('INDEX %%I ON %%s%%s ', i.relname,
                                                     case when i.relkind = 'I' then 'ONLY ' else '' end, it.qualified)) - 1) as tail
    from pg_catalog.pg_index as x
    join pg_catalog.pg_class as i on i.oid = x.indexrelid
    join it on it.oid = x.indrelid
), ind_part as (
    -- The same index where the rows are: the one on the leaf that the parent's has adopted.
    select ind.subject, ind.oid as parent, p.oid as leaf, i.*, x.indisvalid and x.indisready as is_usable, x.indisclustered
    from ind
    cross join part as p
    left join pg_catalog.pg_index as x
        on x.indrelid = p.oid
           and (x.indexrelid = ind.oid
                or exists (select from pg_catalog.pg_inherits as h where h.inhrelid = x.indexrelid and h.inhparent = ind.oid))
    left join pg_catalog.pg_class as i on i.oid = x.indexrelid
), trig as (
    select t.*, 'trigger "' || pg_catalog.replace(t.tgname, '"', '""') || '"' as subject
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_proc as p on p.oid = t.tgfoid
    where t.tgrelid = %(oid)s::oid and not t.tgisinternal and p.pronamespace is distinct from pg_catalog.to_regnamespace('rehearsal')
), ext as (
    select s.*, 'statistics "' || pg_catalog.replace(n.nspname, '"', '""') || '"."' || pg_catalog.replace(s.stxname, '"', '""') || '"' as subject
    from pg_catalog.pg_statistic_ext as s
    join pg_catalog.pg_namespace as n on n.oid = s.stxnamespace
    where s.stxrelid = %(oid)s::oid
), depending as (
    -- What other objects are made of this table or of its row type.
    select distinct d.classid, d.objid, pg_catalog.pg_describe_object(d.classid, d.objid, 0) as said
    from it
    join pg_catalog.pg_depend as d
        on ((d.refclassid = 'pg_class'::regclass and d.refobjid = it.oid)
            or (d.refclassid = 'pg_type'::regclass
                and d.refobjid in (it.reltype, (select t.typarray from pg_catalog.pg_type as t where t.oid = it.reltype))))
           and d.deptype = 'n'
    where d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)
          and d.objid <> it.oid
), views as (
    select distinct v.oid, v.relkind, pg_catalog.format('%%I.%%I', n.nspname, v.relname) as qualified
    from depending as d
    join pg_catalog.pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    join pg_catalog.pg_class as v on v.oid = r.ev_class and v.oid <> %(oid)s::oid
    join pg_catalog.pg_namespace as n on n.oid = v.relnamespace
), fact (subject, facet, said) as (
    select 'table', f.facet, f.said
    from it, lateral (values
        ('owner', (select string_agg(distinct pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(w.relowner)), ' | ') from whole as w)),
        ('partitioned by', pg_catalog.pg_get_partkeydef(it.oid)),
        ('persistence', it.relpersistence::text),
        ('row security', case when it.relrowsecurity then 'on' end),
        ('row security forced', case when it.relforcerowsecurity then 'on' end),
        ('comment', pg_catalog.obj_description(it.oid, 'pg_class')),
        -- Rows of such tables are read and changed with those of this one, and of none of our own.
        ('inherited by', (select string_agg(i.inhrelid::regclass::text, ', ' order by i.inhrelid::regclass::text)
                          from pg_catalog.pg_inherits as i join pg_catalog.pg_class as c on c.oid = i.inhrelid
                          where i.inhparent = it.oid and not c.relispartition)),
        ('inherits', (select string_agg(i.inhparent::regclass::text, ', ' order by i.inhparent::regclass::text)
                      from pg_catalog.pg_inherits as i where i.inhrelid = it.oid and not it.relispartition)),
        ('of type', nullif(it.reloftype, 0)::regtype::text),
        ('replica identity', (select string_agg(distinct r.said, ' | ') from replica as r)),
        ('options', (select nullif(string_agg(distinct coalesce((select string_agg(o, ', ' order by o) from unnest(p.reloptions) as o), 'none'), ' | '), 'none')
                     from part as p)),
        ('toast options', (select nullif(string_agg(distinct coalesce((select string_agg(o, ', ' order by o) from unnest(t.reloptions) as o), 'none'), ' | '), 'none')
                           from part as p join pg_catalog.pg_class as t on t.oid = p.reltoastrelid)),
        ('tablespace', (select string_agg(distinct coalesce(pg_catalog.quote_ident(s.spcname), 'default'), ' | ')
                        from part as p left join pg_catalog.pg_tablespace as s on s.oid = p.reltablespace)),
        ('access method', (select string_agg(distinct pg_catalog.quote_ident(m.amname), ' | ')
                           from part as p join pg_catalog.pg_am as m on m.oid = p.relam)),
        ('clustered on', (select string_agg(distinct i.subject, ' | ') from ind_part as i where i.indisclustered))
    ) as f (facet, said)
    union all
    select 'grant to ' || case when a.grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end,
           lower(a.privilege_type) || a.col, case when a.is_grantable then 'with grant option' else 'granted' end
    from acl as a
    union all
    select 'column "' || pg_catalog.replace(c.attname, '"', '""') || '"', f.facet, f.said
    from columns as c
    left join pg_catalog.pg_attrdef as d on d.adrelid = c.attrelid and d.adnum = c.attnum
    left join pg_catalog.pg_collation as l on l.oid = c.attcollation
    left join pg_catalog.pg_namespace as ln on ln.oid = l.collnamespace
    cross join lateral (values
        ('place', c.place::text),
        ('type', pg_catalog.format_type(c.atttypid, c.atttypmod)),
        ('collation', pg_catalog.quote_ident(ln.nspname) || '.' || pg_catalog.quote_ident(l.collname)),
        -- A default names no column, and to print one by its table takes as long as the table is wide.
        ('default', case when c.attgenerated = '' then pg_catalog.pg_get_expr(d.adbin, 0) end),
        ('generated', case c.attgenerated when 's' then 'stored ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
                                          when 'v' then 'virtual ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) end),
        ('identity', case c.attidentity when 'a' then 'always' when 'd' then 'by default' end),
        ('not null', case when c.attnotnull then 'yes' end),
        ('storage', (select string_agg(distinct a.attstorage::text, ' | ') from pg_catalog.pg_attribute as a
                     join whole as w on w.oid = a.attrelid where a.attname = c.attname and not a.attisdropped)),
        ('compression', (select string_agg(distinct nullif(a.attcompression::text, ''), ' | ') from pg_catalog.pg_attribute as a
                         join whole as w on w.oid = a.attrelid where a.attname = c.attname and not a.attisdropped)),
        ('statistics', (select nullif(string_agg(distinct coalesce(nullif(a.attstattarget, -1)::text, 'default'), ' | '), 'default')
                        from pg_catalog.pg_attribute as a join whole as w on w.oid = a.attrelid
                        where a.attname = c.attname and not a.attisdropped)),
        -- Those that people set: servers may keep notes of their own among them.
        ('options', (select nullif(string_agg(distinct coalesce(array(
                         select one from pg_catalog.unnest(a.attoptions) as one where one ~ '^n_distinct' order by one
                     )::text, '{}'), ' | '), '{}')
                     from pg_catalog.pg_attribute as a join whole as w on w.oid = a.attrelid
                     where a.attname = c.attname and not a.attisdropped)),
        ('comment', pg_catalog.col_description(c.attrelid, c.attnum))
    ) as f (facet, said)
    union all
    select 'sequence of column "' || pg_catalog.replace(s.attname, '"', '""') || '"', f.facet, f.said
    from seq as s, lateral (values
        ('name', pg_catalog.format('%%I.%%I', s.nspname, s.relname)),
        ('kind', case s.deptype when 'i' then 'identity' else 'owned' end),
        ('settings', pg_catalog.format('%%s start %%s increment %%s from %%s to %%s cache %%s cycle %%s', s.seqtypid::regtype, s.seqstart,
                                       s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)),
        ('owner', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(s.relowner))),
        ('comment', pg_catalog.obj_description(s.oid, 'pg_class')),
        ('grants', (select string_agg(pg_catalog.format('%%s to %%s%%s', lower(x.privilege_type),
                        case when x.grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end,
                        case when x.is_grantable then ' with grant option' else '' end), ', ' order by x.grantee, x.privilege_type)
                    from pg_catalog.aclexplode(coalesce(s.relacl, pg_catalog.acldefault('s', s.relowner))) as x))
    ) as f (facet, said)
    union all
    select c.subject, f.facet, f.said
    from con as c, lateral (values
        ('definition', pg_catalog.pg_get_constraintdef(c.oid)),
        ('comment', pg_catalog.obj_description(c.oid, 'pg_constraint')),
        ('on partitions', (select 'not valid on ' || string_agg(p.relname, ', ' order by p.relname)
                           from part as p join pg_catalog.pg_constraint as l
                               on l.conrelid = p.oid and l.conname = c.conname and l.contype = c.contype and not l.convalidated
                           where c.convalidated))
    ) as f (facet, said)
    where c.contype <> 'n' or not c.convalidated or pg_catalog.obj_description(c.oid, 'pg_constraint') is not null
    union all
    select 'foreign key "' || pg_catalog.replace(c.conname, '"', '""') || '" of ' || c.conrelid::regclass, f.facet, f.said
    from pg_catalog.pg_constraint as c, lateral (values
        ('definition', pg_catalog.pg_get_constraintdef(c.oid)),
        ('comment', pg_catalog.obj_description(c.oid, 'pg_constraint'))
    ) as f (facet, said)
    where c.confrelid = %(oid)s::oid and c.conrelid <> c.confrelid and c.contype = 'f' and c.conparentid = 0
    union all
    select i.subject, f.facet, f.said
    from ind as i, lateral (values
        ('definition', case when i.indisunique then 'unique ' else '' end || i.tail),
        ('usable', case when not i.indisvalid then 'no' end),
        ('missing', (select 'on ' || string_agg(pg_catalog.quote_ident(p.relname), ', ' order by p.relname) from ind_part as o
                     join part as p on p.oid = o.leaf where o.parent = i.oid and o.is_usable is not true)),
        ('comment', pg_catalog.obj_description(i.oid, 'pg_class')),
        ('options', (select nullif(string_agg(distinct coalesce((select string_agg(o, ', ' order by o) from unnest(p.reloptions) as o), 'none'),
                                              ' | '), 'none')
                     from ind_part as p where p.parent = i.oid and p.is_usable)),
        ('tablespace', (select string_agg(distinct coalesce(pg_catalog.quote_ident(s.spcname), 'default'), ' | ') from ind_part as p
                        left join pg_catalog.pg_tablespace as s on s.oid = p.reltablespace where p.parent = i.oid and p.is_usable)),
        ('statistics', (select string_agg(pg_catalog.format('%%s: %%s', s.attnum, s.said), ', ' order by s.attnum)
                        from (select a.attnum, string_agg(distinct coalesce(nullif(a.attstattarget, -1)::text, 'default'), ' | ') as said
                              from ind_part as p join pg_catalog.pg_attribute as a on a.attrelid = p.oid
                              where p.parent = i.oid and p.is_usable group by a.attnum) as s
                        where s.said <> 'default'))
    ) as f (facet, said)
    union all
    select 'policy "' || pg_catalog.replace(p.polname, '"', '""') || '"', f.facet, f.said
    from pg_catalog.pg_policy as p, lateral (values
        ('definition', pg_catalog.format('%%s for %%s to %%s', case when p.polpermissive then 'permissive' else 'restrictive' end,
            case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
            (select string_agg(case when r = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)) end, ', ' order by r)
             from unnest(p.polroles) as r))),
        ('using', pg_catalog.pg_get_expr(p.polqual, p.polrelid)),
        ('with check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
        ('comment', pg_catalog.obj_description(p.oid, 'pg_policy'))
    ) as f (facet, said)
    where p.polrelid = %(oid)s::oid
    union all
    select t.subject, f.facet, f.said
    from trig as t cross join it
    cross join lateral (
        select whole, pg_catalog.substring(whole, '^(?:[^"]|"[^"]*")*? ON ') as head
        from pg_catalog.pg_get_triggerdef(t.oid) as d (whole)
    ) as q
    cross join lateral (values
        -- The table's place is behind the first ON outside of quotes: names, conditions and arguments may say it as well.
        ('definition', q.head || 'it' || pg_catalog.substr(q.whole, 1 + pg_catalog.length(q.head || it.qualified))),
        ('enabled', (select string_agg(distinct o.tgenabled::text, ' | ') from pg_catalog.pg_trigger as o
                     where o.oid = t.oid or o.tgparentid = t.oid)),
        ('comment', pg_catalog.obj_description(t.oid, 'pg_trigger'))
    ) as f (facet, said)
    union all
    select 'rule "' || pg_catalog.replace(r.rulename, '"', '""') || '"', f.facet, f.said
    from pg_catalog.pg_rewrite as r, lateral (values
        ('definition', pg_catalog.pg_get_ruledef(r.oid)),
        ('enabled', r.ev_enabled::text),
        ('comment', pg_catalog.obj_description(r.oid, 'pg_rewrite'))
    ) as f (facet, said)
    where r.ev_class = %(oid)s::oid
    union all
    select e.subject, f.facet, f.said
    from ext as e, lateral (values
        ('definition', pg_catalog.format('(%%s) on %%s', (select string_agg(k::text, ', ' order by k::text) from unnest(e.stxkind) as k),
                                         pg_catalog.pg_get_statisticsobjdef_columns(e.oid))),
        ('target', coalesce(nullif(e.stxstattarget, -1)::text, 'default')),
        ('owner', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.stxowner))),
        ('comment', pg_catalog.obj_description(e.oid, 'pg_statistic_ext'))
    ) as f (facet, said)
    union all
    select 'publication "' || pg_catalog.replace(p.pubname, '"', '""') || '"', f.facet, f.said
    from it
    join pg_catalog.pg_publication_rel as r on r.prrelid = it.oid
    join pg_catalog.pg_publication as p on p.oid = r.prpubid
    cross join lateral (values
        ('member', 'yes'),
        -- Rows and columns as the server says them: of the table, or of its partitions where it publishes by those.
        ('columns', (select string_agg(distinct to_jsonb(t) ->> 'attnames', ' | ') from pg_catalog.pg_publication_tables as t
                     join named as w on (w.nspname, w.relname) = (t.schemaname, t.tablename)
                     where t.pubname = p.pubname)),
        ('rows', (select string_agg(distinct to_jsonb(t) ->> 'rowfilter', ' | ') from pg_catalog.pg_publication_tables as t
                  join named as w on (w.nspname, w.relname) = (t.schemaname, t.tablename)
                  where t.pubname = p.pubname))
    ) as f (facet, said)
    union all
    select case when v.relkind = 'm' then 'materialized view ' else 'view ' end || v.qualified, 'definition', pg_catalog.pg_get_viewdef(v.oid)
    from views as v
    union all
    select d.said, 'depends', case when d.classid = 'pg_proc'::regclass then
               pg_catalog.pg_get_function_arguments(d.objid) || ' returns ' || pg_catalog.pg_get_function_result(d.objid)
               || coalesce(' ' || pg_catalog.pg_get_function_sqlbody(d.objid), '') else 'on this table' end
    from depending as d
    where d.classid <> 'pg_rewrite'::regclass
    union all
    select pg_catalog.format('security label of %%I', l.provider), coalesce('column ' || c.attname, 'table'), l.label
    from pg_catalog.pg_seclabel as l left join columns as c on c.attnum = l.objsubid
    where l.classoid = 'pg_class'::regclass and l.objoid = %(oid)s::oid
)
select subject, facet, said from fact where said is not null order by subject, facet
