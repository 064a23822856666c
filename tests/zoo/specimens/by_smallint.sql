-- name = "public.grid"
-- key = "cell"
-- interval = "10000"
-- # setup
create table grid (cell smallint not null, layer text collate "C" not null, payload bytea, primary key (layer, cell));
insert into grid select (n * 131 % 65536 - 32768)::smallint, 'l' || n % 5, sha256(n::text::bytea) from generate_series(0, 500) as n;
insert into grid values (-32768, 'edge', null), (32767, 'edge', null);
-- # writes
insert into :table values (32766, 'round :round', null);
update :table set cell = -32767 where layer = 'edge' and cell = -32768;
update :table set payload = null where layer = 'l' || (:round % 5);
delete from :table where layer = 'l4' and cell % 10 = :round;
-- # holds
select count(*) > 0 from public.grid where cell = 32767
