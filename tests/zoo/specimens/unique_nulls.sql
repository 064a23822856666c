-- name = "public.slots"
-- key = "at"
-- since = 15
-- strategies = ["swap", "dual-write"]
-- # setup
create table slots (id bigserial primary key, at timestamptz not null, holder text, unique nulls not distinct (holder, at));
create unique index slots_lower on slots (lower(holder), at) nulls not distinct where holder <> 'x';
insert into slots (at, holder) select '2026-02-01'::timestamptz + n * interval '3 hours', nullif('h' || n, 'h7') from generate_series(1, 250) as n;
-- # writes
insert into :table (at, holder) values ('2026-03-01 00:00:0:round', null);
update :table set holder = 'H' || id where id % 20 = :round;
delete from :table where id % 31 = :round;
