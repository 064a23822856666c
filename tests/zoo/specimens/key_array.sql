-- name = "public.paths"
-- key = "at"
-- # setup
create table paths (path text[] , doc jsonb, at timestamptz, primary key (path, doc, at));
insert into paths select array['a', 'b,"c' || n, null], jsonb_build_object('k', n), '2026-02-01'::timestamptz + n * interval '3 hours' from generate_series(1, 250) as n;
-- # writes
insert into :table values ('{}', '{"round": :round}', '2026-03-01'), ('{{1,2},{3,4}}', '[:round]', '2026-03-01');
update :table set path = path || '{x}' where doc = '{"k": 1:round}';
update :table set at = at + interval '28 days' where doc = '{"k": :round}';
delete from :table where doc = '{"k": 2:round}';
