-- name = "public.documents"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table documents (
    id bigserial primary key, at timestamptz not null, title text, body text, tags text[], extra jsonb, place point, span int4range,
    words tsvector generated always as (to_tsvector('simple', coalesce(body, ''))) stored
);
create index d_hash on documents using hash (title);
create index d_brin on documents using brin (at) with (pages_per_range = 4, autosummarize = on);
create index d_gin on documents using gin (extra jsonb_path_ops) with (fastupdate = off);
create index d_words on documents using gin (words);
create index d_tags on documents using gin (tags);
create index d_gist on documents using gist (place) with (fillfactor = 60);
create index d_spgist on documents using spgist (span);
create index d_expr on documents (lower(title) text_pattern_ops desc nulls last, (extra ->> 'kind'));
create index d_partial on documents (title collate "C") include (id, body) with (fillfactor = 55, deduplicate_items = off) where title <> ' USING ' and body is not null;
create index " USING btree (id) WHERE " on documents (title) where title = ' WHERE ';
create unique index d_unique on documents (title, at);
alter index d_expr alter column 2 set statistics 321;
comment on index d_expr is 'Slow to think of';
comment on index documents_pkey is 'The key';
insert into documents (at, title, body, tags, extra, place, span)
select '2026-02-01'::timestamptz + n * interval '3 hours', 'title ' || n, 'some words ' || n, array['a', n::text], jsonb_build_object('kind', n % 3), point(n, n), int4range(n, n + 5)
from generate_series(1, 250) as n;
-- # writes
insert into :table (at, title, body, place) values ('2026-03-01', 'round :round', 'fresh', '(1,2)');
update :table set body = 'other words :round' where id % 20 = :round;
update :table set at = at + interval '28 days' where id % 33 = :round and at < '2026-02-09';
delete from :table where id % 35 = :round;
