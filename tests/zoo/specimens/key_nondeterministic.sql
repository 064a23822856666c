-- name = "public.people"
-- key = "born"
-- built_with = "icu"
-- # setup
create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table people (name text collate no_case primary key, born date not null, shoe int);
insert into people select 'Person ' || n, '2026-02-01'::date + n % 50, n from generate_series(1, 250) as n;
-- # writes
insert into :table values ('New :round', '2026-03-02', 1);
update :table set name = upper(name) where shoe % 10 = :round;
update :table set name = lower(name), shoe = shoe + 1000 where shoe % 10 = :round;
delete from :table where name = 'PERSON 4:round';
