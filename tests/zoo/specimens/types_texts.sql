-- name = "public.texts_of_all_kinds"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table texts_of_all_kinds (
    id bigserial primary key, at timestamptz not null, t text, tc text collate "C", v varchar(30), c char(10), b bytea, j json, jb jsonb, jp jsonpath, x xml, ts tsvector, tq tsquery, u uuid
);
insert into texts_of_all_kinds (at, t, tc, v, c, b, j, jb, jp, ts, tq, u)
select '2026-02-01'::timestamptz + n * interval '3 hours', E'é\t\n\\ '' "', 'ß', 'v' || n, 'c ', '\x00ff27', '{"a" : 1, "a":2}', '{"a": 1.0}', '$.a[*]', 'a:1 b:2', 'a & b', gen_random_uuid()
from generate_series(1, 250) as n;
-- # writes
insert into :table (at, t, j, jb) values ('2026-03-01', repeat('long é', 2000), '[1,  2]', '[1.00]');
update :table set t = '', c = 'c', j = '{}' where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
