-- name = "public.secrets"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table secrets (id bigserial primary key, at timestamptz not null, owner_name text not null default current_user, body text);
create policy "own rows" on secrets for all to "zoo reader", zoo_writer using (owner_name = current_user) with check (owner_name = current_user);
create policy no_old on secrets as restrictive for select to public using (at > '2020-01-01' or body like '%100\%%');
create policy "ins" on secrets for insert to zoo_writer with check (body is not null);
comment on policy "own rows" on secrets is 'Nobody sees another''s';
alter table secrets enable row level security;
alter table secrets force row level security;
grant select, insert, update, delete on secrets to zoo_writer;
insert into secrets (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', 'b' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', 'round :round');
update :table set body = 'changed' where id % 20 = :round;
delete from :table where id % 30 = :round;
