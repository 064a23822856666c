-- name = "public.select"
-- key = "from"
-- # setup
create function noted() returns trigger language plpgsql as $$ begin new."where" := coalesce(new."where", 0) + 1; return new; end $$;
create table "select" ("order" bigint generated always as identity primary key, "from" date not null, "where" int, "table" text);
create trigger "trigger % $1 ""x"" 'y' {{ z }} \" before insert or update of "where", "table" on "select" for each row
    when (new."table" is distinct from '100% {{ x }} ON public."select" ') execute function noted('%s', '{{ }}', '\', '$1');
comment on trigger "trigger % $1 ""x"" 'y' {{ z }} \" on "select" is 'a %s {{ comment }}';
insert into "select" ("from", "table") select '2026-02-01'::date + n % 50, 't' || n from generate_series(1, 250) as n;
-- # writes
insert into :table ("from") values ('2026-03-01');
update :table set "table" = 'u' where "order" % 20 = :round;
delete from :table where "order" % 31 = :round;
-- # holds
select (select max("where") from public."select") < 20
