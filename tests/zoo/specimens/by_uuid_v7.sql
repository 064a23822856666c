-- name = "public.messages"
-- key = "id"
-- strategies = ["swap", "dual-write"]
-- # setup
create function at_millis(bigint) returns uuid language sql volatile as
$$select overlay(overlay(gen_random_uuid()::text placing lpad(to_hex($1 >> 16), 8, '0') || '-' || lpad(to_hex($1 & 65535), 4, '0')
    from 1) placing '7' from 15)::uuid$$;
create table messages (id uuid primary key, thread int, body text compression pglz);
create index on messages (thread, id);
insert into messages select at_millis(1768000000000 + n * 20000000::bigint), n % 7, 'm' || n from generate_series(1, 250) as n;
-- # writes
insert into :table values (at_millis(1772000000000 + :round), 1, 'round :round');
update :table set body = body || '!' where thread = :round;
update :table set id = at_millis(1771000000000 + :round) where body = 'm' || (20 + :round);
delete from :table where body = 'm' || (30 + :round);
