-- name = "public.replicated"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table replicated (id bigserial primary key, at timestamptz not null, body text);
alter table replicated replica identity full;
insert into replicated (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', 'b' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', 'round :round');
update :table set body = 'c' where id % 20 = :round;
delete from :table where id % 31 = :round;
