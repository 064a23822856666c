-- name = "public.tasks"
-- key = "archived"
-- method = "list"
-- values = { live = ["false"], archive = ["true"] }
-- # setup
create domain yes_or_no as boolean not null default false;
create table tasks (id smallint primary key, archived yes_or_no not null, tags text[]);
create index on tasks using gin (tags);
insert into tasks select n, n % 3 = 0, array['t' || n % 5] from generate_series(1, 250) as n;
-- # writes
insert into :table (id, archived, tags) values (1000 + :round, default, '{a,b}');
update :table set archived = not archived where id = 10 + :round;
delete from :table where id = 30 + :round;
