-- name = "public.rooms"
-- key = "day"
-- since = 17
-- # setup
create table rooms (id bigserial, day date not null, during int4range, primary key (id, day), exclude using gist (int4range(id::int, id::int, '[]') with =, during with &&));
alter table rooms drop constraint rooms_int4range_during_excl;
alter table rooms add constraint apart exclude using gist (during with &&, daterange(day, day, '[]') with =);
alter table rooms drop constraint apart;
alter table rooms add constraint "a room's own" exclude using btree (day with =, id with =);
comment on constraint "a room's own" on rooms is 'btree may exclude as well';
insert into rooms (day, during) select '2026-02-01'::date + n % 40, int4range(n, n + 1) from generate_series(1, 250) as n;
-- # writes
insert into :table (day, during) values ('2026-03-01', '[1,4)');
update :table set during = '[5,6)' where id % 20 = :round;
delete from :table where id % 31 = :round;
