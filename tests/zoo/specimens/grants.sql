-- name = "public.payroll"
-- key = "paid_on"
-- strategies = ["swap", "dual-write"]
-- # setup
create table payroll (id bigserial primary key, paid_on date not null, who text, "Gross Pay" numeric(10, 2));
grant select (id, who), update ("Gross Pay") on payroll to "zoo reader";
grant select ("Gross Pay") on payroll to "Zoo ""Ops""" with grant option;
grant select, insert on payroll to zoo_writer with grant option;
grant trigger, references on payroll to public;
revoke truncate on payroll from current_user;
alter default privileges in schema public grant all on tables to "zoo reader";
alter default privileges grant select on tables to public;
insert into payroll (paid_on, who, "Gross Pay") select '2026-02-01'::date + n % 40, 'p' || n, n from generate_series(1, 250) as n;
-- # writes
insert into :table (paid_on, who) values ('2026-03-01', 'round :round');
update :table set "Gross Pay" = 1 where id % 20 = :round;
delete from :table where id % 35 = :round;
-- # holds
select not has_table_privilege('zoo reader', 'public.payroll', 'delete');
select not exists (select from pg_catalog.pg_inherits where inhparent = 'public.payroll'::regclass and has_table_privilege('zoo reader', inhrelid, 'select'))
