-- name = "public.devices"
-- key = "device"
-- method = "hash"
-- modulus = 4
-- # setup
create table devices (site int, device uuid default gen_random_uuid(), name text not null, constraint "pk of devices" primary key (site, device));
create unique index on devices (device, lower(name));
insert into devices (site, name) select n % 9, 'd' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (site, name) values (1, 'round :round');
update :table set device = gen_random_uuid() where name = 'd' || (10 + :round);
update :table set site = site + 1 where name = 'd' || (20 + :round);
delete from :table where name = 'd' || (30 + :round);
