-- name = "public.jobs"
-- key = "due"
-- epoch = "s"
-- interval = "1 week"
-- # setup
create table jobs (id serial primary key, due int not null, state text check (state in ('new', 'done')));
create unique index jobs_due_state on jobs (state, due, id);
insert into jobs (due, state) select 1770000000 + n * 7000, 'new' from generate_series(1, 300) as n;
-- # writes
insert into :table (due, state) values (1772600000, 'new');
update :table set state = 'done' where id % 17 = :round;
update :table set due = due + 604800 where id = 50 + :round;
delete from :table where id % 41 = :round;
