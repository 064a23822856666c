-- Indexes and foreign keys of a table, by oid: what was there before is told apart from what was built anew
select array(
           select x.indexrelid from pg_catalog.pg_index as x where x.indrelid = %(oid)s::oid
       ) as indexes,
       array(
           select con.oid from pg_catalog.pg_constraint as con where con.conrelid = %(oid)s::oid and con.contype = 'f'
       ) as foreign_keys
