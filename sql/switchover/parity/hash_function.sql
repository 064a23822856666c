-- The function that the one column of a hash-partitioned table is hashed with, for its seeded 64-bit hash
select n.nspname, p.proname
from pg_catalog.pg_partitioned_table as t
join pg_catalog.pg_opclass as c on c.oid = t.partclass[0]
join pg_catalog.pg_amproc as a on a.amprocfamily = c.opcfamily and a.amproclefttype = c.opcintype
                                  and a.amprocrighttype = c.opcintype and a.amprocnum = 2
join pg_catalog.pg_proc as p on p.oid = a.amproc
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where t.partrelid = %(oid)s::oid and t.partstrat = 'h' and t.partnatts = 1
