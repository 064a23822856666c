-- name = '"a.b "" c".d.e'
-- key = "f.g"
-- strategies = ["swap", "dual-write"]
-- # setup
create schema "a.b "" c";
create table "a.b "" c"."d.e" ("h.i" bigserial primary key, "f.g" date not null, "UPPER" text);
create index "J.K" on "a.b "" c"."d.e" ("UPPER");
insert into "a.b "" c"."d.e" ("f.g", "UPPER") select '2026-02-01'::date + n % 50, 't' || n from generate_series(1, 250) as n;
-- # writes
insert into :table ("f.g") values ('2026-03-01');
update :table set "UPPER" = 'u' where "h.i" % 20 = :round;
delete from :table where "h.i" % 31 = :round;
