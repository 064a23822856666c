-- What the planner's statistics say of each column that a table could be partitioned by; nothing is read of the table
select a.attname::text as name, a.attnotnull as not_null, s.null_frac::float8 as null_fraction,
       case when s.n_distinct < 0 then -s.n_distinct * greatest(c.reltuples, 0) else s.n_distinct end::float8 as distinct_values,
       s.correlation::float8 as correlation,
       coalesce((s.histogram_bounds::text::text[])[1], (s.most_common_vals::text::text[])[1]) as sample_low,
       coalesce((s.histogram_bounds::text::text[])[array_length(s.histogram_bounds::text::text[], 1)],
                (s.most_common_vals::text::text[])[1]) as sample_high,
       s.most_common_vals::text::text[] as common,
       exists (select from pg_catalog.pg_index as i where i.indrelid = c.oid and i.indkey[0] = a.attnum) as is_indexed
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_stats as s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
                                     and not s.inherited
where a.attrelid = %(oid)s::oid and a.attnum > 0 and not a.attisdropped
order by a.attnum
