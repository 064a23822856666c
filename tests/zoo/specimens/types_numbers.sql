-- name = "public.numbers_of_all_kinds"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table numbers_of_all_kinds (
    id bigserial primary key, at timestamptz not null, i2 smallint, i4 int, i8 bigint, n numeric, ns numeric(20, 5), f4 real, f8 double precision, m money, b boolean, o oid,
    bits bit(5), vbits bit varying(9), "char" "char", nm name
);
insert into numbers_of_all_kinds (at, i2, i4, i8, n, ns, f4, f8, m, b, o, bits, vbits, "char", nm)
select '2026-02-01'::timestamptz + n * interval '3 hours', n, n, 9223372036854775807 - n, n / 7.0, n / 7.0, n / 7.0, n / 7.0::float8, n::money, n % 2 = 0, n, n::bit(5), B'101', 'c', 'name ' || n
from generate_series(1, 250) as n;
insert into numbers_of_all_kinds (at, n, f4, f8) values ('2026-02-02', 'NaN', 'NaN', '-0'), ('2026-02-02', 1.0, 'infinity', 'NaN'), ('2026-02-02', 1.00, 1e-30, 5e-324);
-- # writes
insert into :table (at, n, f8) values ('2026-03-01', 1.000, 1e300);
update :table set n = n * 1.0, m = m * 2, bits = ~bits where id % 20 = :round;
update :table set at = at + interval '28 days' where id = :round;
delete from :table where id % 31 = :round;
