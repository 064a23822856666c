-- name = "public.drafts"
-- key = "at"
-- # setup
create table drafts (id bigserial primary key, at timestamptz not null, body text);
create policy waiting on drafts for update to zoo_writer using (true);
insert into drafts (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', 'b' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', 'round :round');
update :table set body = 'changed' where id % 20 = :round;
