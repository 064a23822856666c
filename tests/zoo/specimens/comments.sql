-- name = "public.talkative"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table talkative (id bigserial, at timestamptz not null, a text, b text, constraint t_pk primary key (id, at), constraint t_check check (a <> b), constraint t_unique unique (a, at));
create index t_a on talkative (a);
create statistics t_s on a, b from talkative;
comment on table talkative is E'100% ''quoted'' \\ {{ x }} {% raw %} $$ -- ; \n second line';
comment on column talkative.a is '{% if %}';
comment on constraint t_pk on talkative is 'pk';
comment on constraint t_check on talkative is 'check';
comment on constraint t_unique on talkative is 'unique';
comment on index t_pk is 'index of pk';
comment on index t_unique is 'index of unique';
comment on index t_a is 'index of a';
comment on statistics t_s is 'statistics';
comment on sequence talkative_id_seq is 'sequence';
insert into talkative (at, a, b) select '2026-02-01'::timestamptz + n * interval '3 hours', 'a' || n, 'b' from generate_series(1, 250) as n;
-- # writes
insert into :table (at, a) values ('2026-03-01', 'round :round');
update :table set b = 'c' where id % 20 = :round;
delete from :table where id % 31 = :round;
