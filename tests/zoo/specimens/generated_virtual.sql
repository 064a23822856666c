-- name = "public.virtual_invoices"
-- key = "at"
-- since = 18
-- strategies = ["swap", "dual-write"]
-- # setup
create table virtual_invoices (
    id bigint generated always as identity primary key, net numeric(12, 2), total numeric generated always as (net * 1.2) virtual,
    twice numeric generated always as (net * 2) stored, at timestamptz not null,
    constraint "net is there" not null net, constraint not_enforced check (net > 5) not enforced
);
comment on constraint "net is there" on virtual_invoices is 'Named';
insert into virtual_invoices (net, at) select n, '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 250) as n;
-- # writes
insert into :table (net, at) values (7, '2026-03-01');
update :table set net = net + 1 where id % 20 = :round;
delete from :table where id % 31 = :round;
