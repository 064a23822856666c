-- name = "public.items"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table shops (id int, region text, primary key (id, region));
create table colors (code text primary key);
insert into shops select n, r from generate_series(1, 5) as n, unnest(array['n', 's']) as r;
insert into colors values ('red'), ('blue');
create table items (
    id bigserial primary key, at timestamptz not null, shop int, region text, color text default 'red',
    constraint "item's shop" foreign key (shop, region) references shops on update cascade on delete set null,
    constraint color_is_known foreign key (color) references colors match full on delete set default deferrable initially deferred
);
comment on constraint "item's shop" on items is 'Where it''s sold';
insert into items (at, shop, region, color) select '2026-02-01'::timestamptz + n * interval '3 hours', 1 + n % 5, 'n', 'red' from generate_series(1, 250) as n;
-- # writes
insert into :table (at, shop, region) values ('2026-03-01', 1, 's');
update :table set color = 'blue' where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
