-- name = "public.events"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create sequence numbers increment 10 start 7;
create table events (
    id int not null default nextval('numbers') primary key,
    line smallserial,
    at timestamptz not null default now(),
    body jsonb
);
alter sequence numbers owned by events.id;
comment on sequence numbers is 'Shared with nobody';
grant select on sequence numbers to zoo_writer with grant option;
insert into events (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', jsonb_build_object('n', n) from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', '{"round": :round}');
update :table set body = body || '{"seen": :round}' where line % 9 = :round;
delete from :table where line % 31 = :round;
