-- name = "public.tickets"
-- key = "state"
-- method = "list"
-- values = { open = ["new", "in work"], closed = ["done"] }
-- strategies = ["swap", "dual-write"]
-- # setup
create type ticket_state as enum ('new', 'in work', 'done');
create table tickets (state ticket_state not null default 'new', id int, note text, primary key (id, state));
create index on tickets (note text_pattern_ops) include (id);
insert into tickets select (enum_range(null::ticket_state))[1 + n % 3], n, 'note ' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (id, note) values (1000 + :round, 'round :round');
update :table set state = 'done' where id % 40 = :round and state <> 'done';
delete from :table where id % 31 = :round;
