-- name = "public.times_of_all_kinds"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table times_of_all_kinds (
    id bigserial primary key, at timestamp(3) not null, d date, t time, tz timetz, ts timestamp, tstz timestamptz, i interval, im interval year to month,
    r tstzrange, rs int8range[], mr nummultirange
);
insert into times_of_all_kinds (at, d, t, tz, ts, tstz, i, im, r, rs, mr)
select '2026-02-01'::timestamp + n * interval '3 hours', '0044-03-15 BC', '24:00', '10:00:00.123456-07:30', 'infinity', '-infinity', '1 mon -1 day 00:00:00.000001', '3 years', '[2026-01-01,)', '{empty}', '{[1,2], (5,)}'
from generate_series(1, 250) as n;
insert into times_of_all_kinds (at, i) values ('2026-02-02', '30 days'), ('2026-02-02', '1 mon'), ('2026-02-02', '720 hours');
-- # writes
insert into :table (at, i, tz) values ('2026-03-01', '24 hours', '10:00+01'), ('2026-03-01', '1 day', '11:00+02');
update :table set i = i + interval '1 day' where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
