-- name = "public.invoices"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table invoices (
    id bigserial primary key, net numeric(12, 2), total numeric(12, 2) generated always as (net * 1.2) stored, at timestamptz not null,
    label text generated always as ('no ' || id::text) stored, day int generated always as (extract(day from at at time zone 'UTC')::int) stored
);
create index on invoices (total);
create index on invoices (label);
comment on column invoices.total is 'With tax';
insert into invoices (net, at) select n, '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 250) as n;
-- # writes
insert into :table (net, at) values (7, '2026-03-01');
update :table set net = net + 1 where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
