-- name = "public.bookings"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table bookings (id bigserial primary key, at timestamptz not null, nights int, price numeric);
insert into bookings (at, nights, price) select '2026-02-01'::timestamptz + n * interval '3 hours', n % 10 - 1, n from generate_series(1, 250) as n;
alter table bookings add constraint "nights are positive" check (nights >= 0) not valid, add constraint cheap check (price < 1000),
    add constraint local_only check (id > -5) no inherit, add constraint late_local check (price <> 13) no inherit not valid;
comment on constraint "nights are positive" on bookings is 'Since 2026';
comment on constraint cheap on bookings is 'We''re cheap';
comment on constraint bookings_pkey on bookings is 'Key of bookings';
-- # writes
insert into :table (at, nights, price) values ('2026-03-01', 3, 8);
update :table set price = price + 1 where nights > 3 and price <> 12 and id % 20 = :round;
delete from :table where id % 31 = :round;
