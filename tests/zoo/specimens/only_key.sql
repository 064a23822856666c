-- name = "public.only_key"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table only_key (at timestamptz primary key);
insert into only_key select '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 250) as n;
-- # writes
insert into :table (at) values ('2026-03-12 00:00:0:round');
update :table set at = at + interval '30 days 1 minute' where at = '2026-02-01 03:00+00'::timestamptz + :round * interval '3 hours';
delete from :table where at = '2026-02-10 03:00+00'::timestamptz + :round * interval '3 hours';
