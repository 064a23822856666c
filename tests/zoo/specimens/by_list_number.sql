-- name = "public.shards"
-- key = "shard"
-- method = "list"
-- built_with = "libxml"
-- values = { low = [-1, 0], high = ["1", "02"] }
-- # setup
create table shards (shard numeric(4) not null, id text, body xml, primary key (id, shard));
insert into shards select n % 4 - 1, 'i' || n, ('<n>' || n || '</n>')::xml from generate_series(1, 250) as n;
-- # writes
insert into :table values (2, 'round :round', '<r/>');
update :table set shard = 0 where id = 'i' || (10 + :round);
delete from :table where id = 'i' || (30 + :round);
