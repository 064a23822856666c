-- name = "public.documents_by_code"
-- key = "created"
-- strategies = ["swap", "dual-write"]
-- # setup
create table documents_by_code (code text collate "C" primary key, created timestamptz not null, body text);
insert into documents_by_code select E'c\\' || n || '''%s "é ' || chr(9731), '2026-02-01'::timestamptz + n * interval '3 hours', 'b' from generate_series(1, 250) as n;
insert into documents_by_code values ('', '2026-02-02', 'empty'), (E'new\nline', '2026-02-02', 'line'), ('{1,2}', '2026-02-02', 'array'), ('NULL', '2026-02-02', 'null');
-- # writes
insert into :table values ('round :round', '2026-03-01', 'x'), (E'tab\t:round', '2026-03-01', null);
update :table set body = body || ':round' where code in ('', E'new\nline', '{1,2}', 'NULL');
update :table set code = code || ',' where code like E'c%\\\\1:round%' or code = '';
update :table set code = '' where code = ',';
delete from :table where code like '%\\3:round%';
