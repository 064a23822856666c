-- name = "public.mixed_keys"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table mixed_keys (
    c char(5), v varchar(20) collate "POSIX", n numeric, i inet, b bytea, d interval, t time, at timestamp, ok boolean,
    primary key (c, v, n, i, b, d, t, at, ok)
);
insert into mixed_keys select 'a' || n % 7, 'v' || n, n / 3.0, ('10.0.0.' || n % 250)::inet, decode(lpad(to_hex(n), 4, '0'), 'hex'),
       n * interval '1 hour', '10:00'::time + n * interval '1 second', '2026-02-01'::timestamp + n * interval '3 hours', n % 2 = 0
from generate_series(1, 250) as n;
-- # writes
insert into :table values ('r:round', '', 1.50, '::1', '\x00', '1 mon', '24:00', '2026-03-01', true);
update :table set n = n + 1 where v = 'v1:round';
update :table set at = at + interval '28 days' where v = 'v' || :round;
delete from :table where v = 'v2:round';
