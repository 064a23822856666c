-- name = "public.stock"
-- key = "day"
-- strategies = ["swap", "dual-write"]
-- # setup
create type color as enum ('red', 'green', 'deep "blue"');
create type public.box as (width int, label text);
create table stock (kind color, size int4range, day date, pieces int, wrapped public.box, boxes public.box[], primary key (kind, size, day));
insert into stock select (enum_range(null::color))[1 + n % 3], int4range(n, n + 10), '2026-02-01'::date + n % 50, n, row(n, 'a "b", c')::public.box, array[row(1, null)::public.box, null]
from generate_series(1, 250) as n;
-- # writes
insert into :table values ('green', 'empty', '2026-03-01'::date + :round, 5, null, null);
update :table set wrapped.label = 'round :round' where pieces % 20 = :round;
update :table set kind = 'red' where pieces = 13 + :round;
delete from :table where pieces % 31 = :round;
