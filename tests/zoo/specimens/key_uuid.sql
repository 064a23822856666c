-- name = "public.sessions"
-- key = "started"
-- strategies = ["swap", "dual-write"]
-- # setup
create table sessions (id uuid primary key default gen_random_uuid(), started timestamptz not null default '2026-02-15', "user" text);
insert into sessions (started, "user") select '2026-02-01'::timestamptz + n * interval '3 hours', 'u' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (started, "user") values ('2026-03-02', 'round :round');
update :table set id = gen_random_uuid() where "user" = 'u' || (10 + :round);
update :table set started = '2026-03-05' where "user" = 'u' || (20 + :round);
delete from :table where "user" = 'u' || (30 + :round);
