-- name = "public.replicated"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table replicated (id bigserial primary key, at timestamptz not null, code text not null);
create unique index "by code" on replicated (code, at);
alter table replicated replica identity using index "by code";
alter table replicated cluster on "by code";
insert into replicated (at, code) select '2026-02-01'::timestamptz + n * interval '3 hours', 'b' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, code) values ('2026-03-01', 'round :round');
update :table set code = 'c' || id where id % 20 = :round;
delete from :table where id % 31 = :round;
