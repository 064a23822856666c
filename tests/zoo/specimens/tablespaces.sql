-- name = "public.far_away"
-- key = "at"
-- since = 15
-- strategies = ["swap", "dual-write"]
-- # setup
create table far_away (id bigserial, at timestamptz not null, body text, primary key (id) with (fillfactor = 80) using index tablespace "zoo space") tablespace "zoo space";
create index far_body on far_away (body) tablespace "zoo space" where body > 'b';
create index near_body on far_away (body desc);
insert into far_away (at, body) select '2026-02-01'::timestamptz + n * interval '3 hours', 'b' || n from generate_series(1, 250) as n;
-- # writes
insert into :table (at, body) values ('2026-03-01', 'round :round');
update :table set body = 'c' where id % 20 = :round;
delete from :table where id % 31 = :round;
