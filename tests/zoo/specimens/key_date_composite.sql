-- name = "public.readings"
-- key = "day"
-- strategies = ["swap", "dual-write"]
-- # setup
create table readings (device int, channel smallint, day date, value double precision, primary key (device, day, channel));
insert into readings select n % 5, n % 3, '2026-02-01'::date + n % 45, n from generate_series(1, 300) as n on conflict do nothing;
-- # writes
insert into :table values (100 + :round, 1, '2026-03-02', 'NaN'), (100 + :round, 2, '2026-03-02', 'infinity');
update :table set value = -value where channel = 1 and day > '2026-03-01';
update :table set channel = 50 + :round where device = 1 and day = '2026-02-02';
update :table set day = '2026-03-10', device = 300 + :round where device = 2 and day = '2026-02-03';
delete from :table where device = 3 and day = '2026-02-05'::date + :round;
