-- name = "public.places"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create type public.address as (street text, "Zip Code" varchar(9), at point);
create table places (
    id bigserial primary key, at timestamptz not null, p point, l line, s lseg, b box, pa path, po polygon, c circle, i inet, n cidr, m macaddr, m8 macaddr8,
    home public.address, homes public.address[], nested int[][], lsn pg_lsn, cls regclass
);
insert into places (at, p, l, s, b, pa, po, c, i, n, m, m8, home, homes, nested, lsn, cls)
select '2026-02-01'::timestamptz + n * interval '3 hours', '(1,2)', '{1,2,3}', '[(1,2),(3,4)]', '(1,2),(3,4)', '[(1,2),(3,4)]', '((1,2),(3,4))', '<(1,2),3>',
       '10.1.2.3/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', row('a "b", (c)', 'z', '(1,2)')::public.address, array[row('a', 'b', null)::public.address], '{{1,2},{3,null}}', '0/16B3748', 'pg_class'
from generate_series(1, 250) as n;
-- # writes
insert into :table (at, home) values ('2026-03-01', row(null, null, null));
update :table set home.street = 'round :round', i = '::1' where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
