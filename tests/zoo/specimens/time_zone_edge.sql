-- name = "public.at_the_edge"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table at_the_edge (id bigserial primary key, at timestamptz not null, zone text default current_setting('TimeZone'), made timestamptz default now());
insert into at_the_edge (at) values ('2026-01-31 23:59:59.999999+00'), ('2026-02-01 00:00:00+00'), ('2026-02-28 23:59:59.999999+00'), ('2026-03-01 00:00+00'), ('2026-02-28 19:00-05');
-- # writes
insert into :table (at) values ('2026-02-28 23:59:59.999999+00'), ('2026-03-31 23:59:59.999999+00'), ('2026-03-01 00:00:00+14');
update :table set at = case when at < '2026-03-01 00:00+00' then at + interval '0.000001 seconds' else at - interval '0.000001 seconds' end where at between '2026-02-28 23:59+00' and '2026-03-01 00:00+00';
delete from :table where id = (select min(id) from :table);
