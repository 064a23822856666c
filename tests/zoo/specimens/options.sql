-- name = "public.hot"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table hot (id bigserial primary key, at timestamptz not null, body text, other text)
    with (fillfactor = 70, autovacuum_enabled = off, autovacuum_vacuum_scale_factor = 0.02, toast_tuple_target = 4080, toast.autovacuum_vacuum_cost_delay = 5, parallel_workers = 3);
alter table hot alter body set storage external, alter other set storage main, alter other set compression pglz;
insert into hot (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', repeat('x', n * 20) from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', repeat('long', 3000));
update :table set other = repeat('y', 3000) where id % 50 = :round;
delete from :table where id % 31 = :round;
