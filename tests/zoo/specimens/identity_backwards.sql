-- name = "public.countdown"
-- key = "at"
-- # setup
create table countdown (
    id smallint generated always as identity (start -1 increment -1 minvalue -30000 maxvalue -1) primary key,
    at timestamp not null
);
insert into countdown (at) select '2026-02-01'::timestamp + n * interval '6 hours' from generate_series(1, 200) as n;
-- # writes
insert into :table (at) values ('2026-03-01'), ('2026-02-28');
delete from :table where id = (select max(id) from :table);
