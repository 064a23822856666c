-- name = "public.history"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table history (gone1 int, id bigserial, gone2 text, at timestamptz, keep text, gone3 numeric, tail int default 3);
alter table history drop column gone1, drop column gone3;
alter table history add primary key (id);
insert into history (at, keep) select '2026-02-01'::timestamptz + n * interval '3 hours', 'k' from generate_series(1, 150) as n;
alter table history alter at set not null, drop column gone2, add column late int default 42 not null;
insert into history (at, keep) select '2026-02-01'::timestamptz + n * interval '3 hours', 'k' from generate_series(1, 150) as n;
grant select (late) on history to "zoo reader";
-- # writes
insert into :table (at) values ('2026-03-01');
update :table set late = late + 1 where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
