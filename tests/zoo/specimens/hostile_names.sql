-- name = '''Sch"ema 100%.We"ird, 'name' \ $$ %s {0} ünï'''
-- key = "the % key"
-- strategies = ["swap", "dual-write"]
-- # setup
create schema "Sch""ema 100%";
create table "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" (
    "i""d %s" bigserial, "the % key" timestamptz not null, "select" int default 5, "Col ""a"" 'b' \ %(x)s $1 {{ y }}" text, "." text, "ON ""public""." text,
    constraint "pk % ""of"" $1" primary key ("i""d %s"),
    constraint "check % ' {{ x }}" check ("select" > 0 and "." <> '%s {{ }} '' \')
);
create index "ix %s ON ""x"" USING btree" on "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" ("ON ""public"".", lower("Col ""a"" 'b' \ %(x)s $1 {{ y }}"));
comment on index "Sch""ema 100%"."ix %s ON ""x"" USING btree" is '100% "of" it {{ x }} $$ \ ''';
comment on constraint "check % ' {{ x }}" on "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" is '%s';
comment on column "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï"."." is 'a . %(dot)s';
create policy "pol % 'icy' ""{{ }}" on "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" using ("." <> '%s');
grant update ("Col ""a"" 'b' \ %(x)s $1 {{ y }}") on "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" to "Zoo ""Ops""";
create statistics "Sch""ema 100%"."stat %s" on ".", "select" from "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï";
insert into "Sch""ema 100%"."We""ird, 'name' \ $$ %s {0} ünï" ("the % key", "Col ""a"" 'b' \ %(x)s $1 {{ y }}", ".")
select '2026-02-01'::timestamptz + n * interval '3 hours', '%s ' || n, 'x' from generate_series(1, 250) as n;
-- # writes
insert into :table ("the % key", "Col ""a"" 'b' \ %(x)s $1 {{ y }}") values ('2026-03-01', '%');
update :table set "select" = "select" + 1 where "i""d %s" % 20 = :round;
update :table set "the % key" = "the % key" + interval '28 days' where "i""d %s" = :round;
delete from :table where "i""d %s" % 31 = :round;
