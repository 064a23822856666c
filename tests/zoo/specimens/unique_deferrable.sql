-- name = "public.queue"
-- key = "at"
-- # setup
create table queue (id bigserial, at timestamptz not null, place int, primary key (id) include (place) deferrable initially deferred,
                    constraint one_place unique (at, place) with (fillfactor = 66) deferrable, constraint "now" unique (place, at) include (id));
comment on constraint one_place on queue is 'One at a time';
insert into queue (at, place) select '2026-02-01'::timestamptz + n * interval '3 hours', n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, place) values ('2026-03-01', 5000 + 100 * :round);
update :table set place = place + 1;
update :table set id = case id when :round then 10 + :round else :round end where id in (:round, 10 + :round);
delete from :table where place % 31 = :round;
