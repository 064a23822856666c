-- name = "public.Invoices of 2026"
-- key = "Invoice No"
-- interval = "100"
-- premake = 1
-- strategies = ["swap", "dual-write"]
-- # setup
create table "Invoices of 2026" (id uuid primary key default gen_random_uuid(), "Invoice No" bigint not null, paid boolean);
create index on "Invoices of 2026" ("Invoice No" desc) where not paid;
insert into "Invoices of 2026" ("Invoice No", paid) select n * 3 - 200, n % 2 = 0 from generate_series(1, 250) as n;
-- # writes
insert into :table ("Invoice No", paid) values (600 + :round, false);
update :table set "Invoice No" = "Invoice No" - 100 where "Invoice No" between 300 + :round and 302 + :round;
delete from :table where "Invoice No" % 31 = :round;
