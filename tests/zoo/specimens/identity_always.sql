-- name = "public.orders"
-- key = "placed_at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table orders (
    id bigint generated always as identity (start 1000 increment 5 cache 3) primary key,
    placed_at timestamptz not null,
    total numeric(12, 2) not null default 0
);
comment on sequence orders_id_seq is 'Numbers of orders';
grant usage, select on sequence orders_id_seq to "zoo reader";
insert into orders (placed_at, total)
select '2026-02-01'::timestamptz + n * interval '3 hours', n from generate_series(1, 300) as n;
-- # writes
insert into :table (placed_at, total) select '2026-03-03', :round * 10 + n from generate_series(1, 5) as n;
insert into :table (id, placed_at) overriding system value values (-:round, '2026-02-03');
update :table set total = total + 1 where id % 7 = :round;
update :table set placed_at = '2026-03-04 00:00+00' where id = (select max(id) from :table where placed_at < '2026-03-01');
delete from :table where id = (select min(id) from :table where id > 0);
