-- name = "public.clicks"
-- key = "ts"
-- epoch = "ms"
-- strategies = ["swap", "dual-write"]
-- # setup
create table clicks (ts bigint not null, visitor int not null, page text, primary key (ts, visitor));
comment on column clicks.ts is 'Milliseconds since 1970';
create index on clicks using brin (ts) with (pages_per_range = 8);
insert into clicks select 1768000000000 + n * 20000000::bigint, n, '/p' || n % 9 from generate_series(1, 250) as n;
insert into clicks values (1769903999999, 1, 'last of January'), (1769904000000, 1, 'first of February');
-- # writes
insert into :table values (1772000000000 + :round, 7, 'round :round');
update :table set ts = ts + 2678400000 where visitor = 10 + :round;
delete from :table where visitor = 30 + :round;
