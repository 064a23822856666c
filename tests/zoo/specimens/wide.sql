-- name = "public.wide"
-- key = "at"
-- # setup
do $$ begin
    execute (select 'create table public.wide (id bigserial primary key, at timestamptz not null, ' || string_agg(format('"column %s" int default %s', n, n), ', ') || ')' from generate_series(1, 300) as n);
end $$;
insert into wide (at) select '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 150) as n;
-- # writes
insert into :table (at) values ('2026-03-01');
update :table set "column 299" = :round where id % 20 = :round;
delete from :table where id % 31 = :round;
