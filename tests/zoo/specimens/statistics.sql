-- name = "public.measures"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create schema other;
create table measures (id bigserial primary key, at timestamptz not null, a int, b int, "C d" text, e int);
alter table measures alter a set statistics 500, alter b set statistics 0, alter "C d" set (n_distinct = -0.5, n_distinct_inherited = -0.25);
create statistics ab (ndistinct, dependencies) on a, b from measures;
create statistics other."all of ""them""" on a, b, "C d" from measures;
create statistics one_expression on (a + b) from measures;
create statistics exprs (mcv) on (a % 7), b from measures;
alter statistics ab set statistics 77;
comment on statistics ab is 'A and B go together';
alter table measures drop column e;
insert into measures (at, a, b, "C d") select '2026-02-01'::timestamptz + n * interval '3 hours', n % 10, n % 10, n % 3 from generate_series(1, 250) as n;
-- # writes
insert into :table (at, a, b) values ('2026-03-01', :round, :round);
update :table set a = b + 1 where id % 20 = :round;
