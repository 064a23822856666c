-- name = "public.parcels"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create schema types;
create domain types."Parcel Id" as bigint check (value > 0);
create domain types.moment as timestamptz not null;
create type types.state as enum ('new', 'on its way', 'it''s there');
create table parcels (id types."Parcel Id" primary key, at timestamptz not null, state types.state not null default 'new', seen types.moment default '2026-02-01',
                      history types.state[] default '{new}');
insert into parcels (id, at) select n, '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 250) as n;
-- # writes
insert into :table (id, at) values (1000 + :round, '2026-03-01');
update :table set state = 'it''s there', history = history || state where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
