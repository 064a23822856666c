-- name = "public.documents"
-- key = "Tenant \"Name\""
-- method = "hash"
-- modulus = 5
-- strategies = ["swap", "dual-write"]
-- # setup
create domain tenant as varchar(40) check (value <> '');
create table documents (id int primary key, "Tenant ""Name""" tenant not null, body text, words tsvector generated always as (to_tsvector('simple', body)) stored);
create index on documents using gin (words);
insert into documents select n, 'tenant ' || n % 20, 'the body ' || n from generate_series(1, 250) as n;
-- # writes
insert into :table values (1000 + :round, 'new ä', 'round :round');
update :table set "Tenant ""Name""" = 'moved :round' where id % 25 = :round;
delete from :table where id % 31 = :round;
