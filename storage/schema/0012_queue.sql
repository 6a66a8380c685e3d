-- What the outbound queue needs beyond 0003: fair turns between senders, a record of each attempt, and of each removal by hand.

-- ---------------------------------------------------------------- messages

-- One number for content and queue message: known before the insert, so that recipients need not be joined to what was inserted.
ALTER TABLE outbound_message ALTER outbound_id DROP IDENTITY;
ALTER TABLE outbound_message ALTER outbound_id SET DEFAULT nextval('content_block') * 1024; -- a block of its own
ALTER TABLE outbound_message ALTER trace_id DROP DEFAULT;
ALTER TABLE outbound_message ALTER trace_id TYPE text USING substr(replace(trace_id::text, '-', ''), 1, 16);
ALTER TABLE outbound_message ALTER trace_id SET DEFAULT substr(replace(gen_random_uuid()::text, '-', ''), 1, 16);
ALTER TABLE outbound_message ADD CHECK (trace_id ~ '^[0-9a-f]{16}$');
ALTER TABLE outbound_message
    DROP is_8bit,
    ADD body text NOT NULL DEFAULT '7BIT' CHECK (body IN ('7BIT', '8BITMIME', 'BINARYMIME')), -- RFC 6152, RFC 3030
    ADD deliver_by timestamptz,                   -- RFC 2852 §4
    ADD deliver_by_mode text CHECK (deliver_by_mode IN ('N', 'R')),
    ADD CHECK ((deliver_by IS NULL) = (deliver_by_mode IS NULL));
CREATE INDEX outbound_message_trace ON outbound_message (trace_id);

-- ---------------------------------------------------------------- recipients

-- tenant_id: its message's. A foreign key of its own would cost a query for each row, and say nothing new.
DROP INDEX outbound_recipient_due, outbound_recipient_tenant;
ALTER TABLE outbound_recipient DROP CONSTRAINT outbound_recipient_tenant_id_fkey;
ALTER TABLE outbound_recipient ALTER domain TYPE text COLLATE "C";
ALTER TABLE outbound_recipient
    ADD sender bigint,                            -- whose turn it takes: the account, or minus the tenant for what we send ourselves
    ADD urgency smallint NOT NULL DEFAULT 0 CHECK (urgency IN (-1, 0, 1)), -- the sign of the message's priority
    ADD tries integer NOT NULL DEFAULT 0,         -- deliveries that were tried; attempts counts leases, and is their fence
    ADD held_reason text;
UPDATE outbound_recipient AS r
   SET sender = coalesce(m.account_id, -m.tenant_id), urgency = sign(m.priority)
  FROM outbound_message AS m WHERE m.outbound_id = r.outbound_id;
ALTER TABLE outbound_recipient ALTER sender SET NOT NULL;
-- The first finds the next domain of a sender and what is due there, the second when a sender is due next.
CREATE INDEX outbound_recipient_waiting ON outbound_recipient (sender, urgency, domain, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX outbound_recipient_next ON outbound_recipient (sender, urgency, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX outbound_recipient_held ON outbound_recipient (sender) WHERE state = 'held';
CREATE INDEX outbound_recipient_finished ON outbound_recipient (finished_at) WHERE finished_at IS NOT NULL;
-- Every lease and every settlement is a new version of a row: the dead ones must not pile up at the head of the indexes.
ALTER TABLE outbound_recipient SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);

CREATE TABLE outbound_attempt (
    recipient_id bigint NOT NULL REFERENCES outbound_recipient ON DELETE CASCADE,
    attempt      integer NOT NULL,                -- the lease's number
    tried_at     timestamptz NOT NULL DEFAULT now(),
    state        text NOT NULL CHECK (state IN ('delivered', 'failed', 'waiting')),
    host         text NOT NULL,                   -- name and address; '': no server was reached
    tls          text NOT NULL,
    reply        text NOT NULL,                   -- the remote server's own words
    PRIMARY KEY (recipient_id, attempt)
);

-- What was taken out by hand. It stays when the rows are cleared away, and so holds no address: the trace does, while it is kept.
CREATE TABLE outbound_removal (
    removal_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    recipient_id bigint NOT NULL,
    trace_id     text NOT NULL,
    domain       text NOT NULL,
    removed_at   timestamptz NOT NULL DEFAULT now(),
    removed_by   text NOT NULL,                   -- the operator
    reason       text NOT NULL,
    is_told      boolean NOT NULL                 -- whether the sender gets a report
);
CREATE INDEX outbound_removal_tenant ON outbound_removal (tenant_id);
CREATE INDEX outbound_removal_trace ON outbound_removal (trace_id);
CREATE INDEX outbound_removal_removed ON outbound_removal (removed_at);

-- ---------------------------------------------------------------- turns

-- A sender's turns. A lease gives one turn to each lane that is due, the longest waiting lane first, and puts it behind all others
-- that are due: 50,000 recipients of one account cost another's single letter one round, and no scan of theirs.
CREATE TABLE outbound_lane (
    sender      bigint NOT NULL,
    urgency     smallint NOT NULL,
    turn_at     timestamptz NOT NULL,             -- due then; of those that are due: who was served longest ago
    next_domain text COLLATE "C" NOT NULL DEFAULT '', -- the turn goes on after this domain
    passed      integer NOT NULL DEFAULT 0,       -- turns in a row in which nothing could be had
    PRIMARY KEY (sender, urgency)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbound_lane_turn ON outbound_lane (urgency, turn_at);

-- What changed the moment at which a lane is due. Whoever queues mail writes here and locks no lane, so intake never waits for a relay
-- nor for another intake; the next lease folds the rows into the lanes.
CREATE TABLE outbound_wake (
    wake_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender  bigint NOT NULL,
    urgency smallint NOT NULL,
    due_at  timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- The payload is when the first of them is due, in seconds since 1970. What is due later is found by the relays' poll in time.
CREATE FUNCTION wake_outbound() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_due timestamptz;
BEGIN
    WITH woken AS (
        INSERT INTO outbound_wake (sender, urgency, due_at)
        SELECT sender, urgency, min(next_attempt_at) FROM added WHERE state = 'waiting' GROUP BY sender, urgency RETURNING due_at)
    SELECT min(due_at) INTO v_due FROM woken;
    IF v_due < now() + interval '1 minute' THEN
        PERFORM pg_notify('postwerk_outbound', extract(epoch FROM v_due)::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER outbound_added AFTER INSERT ON outbound_recipient
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION wake_outbound();
INSERT INTO outbound_wake (sender, urgency, due_at)
    SELECT sender, urgency, min(next_attempt_at) FROM outbound_recipient WHERE state = 'waiting' GROUP BY sender, urgency;

-- One lane's turn, by whoever has locked the lane: at most p_room recipients that are due, going round its domains after p_after.
-- Rows of a domain that is passed over, however many, cost one step; so do those that are due later.
CREATE FUNCTION lease_lane(p_sender bigint, p_urgency smallint, p_after text, p_room integer, p_now timestamptz,
                           p_until timestamptz, p_by text, p_excluded text[],
                           OUT taken bigint[], OUT reached text, OUT is_over boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_next text;
    v_due timestamptz;
    v_recipient bigint;
    v_steps integer := 0;
    v_is_second boolean := p_after = '';          -- on the way from the first domain to where we started
BEGIN
    taken := '{}';
    reached := p_after;
    is_over := false;
    LOOP
        SELECT r.domain, r.next_attempt_at INTO v_next, v_due FROM outbound_recipient AS r
         WHERE r.state = 'waiting' AND r.sender = p_sender AND r.urgency = p_urgency AND r.domain > reached
         ORDER BY r.domain, r.next_attempt_at LIMIT 1;
        IF NOT FOUND AND NOT v_is_second THEN
            v_is_second := true;
            reached := '';
            CONTINUE;
        END IF;
        IF v_next IS NULL OR (v_is_second AND p_after <> '' AND v_next > p_after COLLATE "C") THEN
            is_over := true;
            RETURN;
        END IF;
        reached := v_next;
        v_steps := v_steps + 1;
        IF v_due <= p_now AND NOT v_next = ANY (p_excluded) THEN
            -- Row by row: a join with what is due would be planned for the queue as it was at the session's first lease.
            FOR v_recipient IN
                SELECT r.recipient_id FROM outbound_recipient AS r
                 WHERE r.state = 'waiting' AND r.sender = p_sender AND r.urgency = p_urgency AND r.domain = v_next
                   AND r.next_attempt_at <= p_now
                 ORDER BY r.next_attempt_at LIMIT p_room - cardinality(taken) FOR UPDATE SKIP LOCKED LOOP
                UPDATE outbound_recipient SET next_attempt_at = p_until, leased_by = p_by, attempts = attempts + 1
                 WHERE recipient_id = v_recipient;
                taken := taken || v_recipient;
            END LOOP;
        END IF;
        EXIT WHEN cardinality(taken) >= p_room OR v_steps >= 500;
    END LOOP;
END $$;

-- Lease at most p_limit recipients that are due. Waits for nobody's lane but while it folds, and one at a time folds: no deadlocks.
-- A lane of which nothing can be had now (its domains are excluded) is looked at again when mail is added, or after a pause: a tenth of
-- a second, as a busy domain has room soon, twice that at the next time, and so on up to p_pause seconds.
CREATE FUNCTION lease_outbound(p_limit integer, p_seconds float8, p_by text, p_excluded text[], p_pause float8,
                               p_senders bigint[] DEFAULT '{}') -- whose turn it is not
RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_now timestamptz;
    v_until timestamptz;
    v_taken bigint[] := '{}';
    v_looks integer := 0;
    v_urgency smallint;
    v_room integer;                               -- how many v_taken may hold at the end of this urgency
    v_share integer;
    v_count integer;
    v_senders bigint[];
    v_cursors text[];
    v_turn record;
    v_due timestamptz;
BEGIN
    WHILE pg_try_advisory_xact_lock(x'50574B51'::bigint) LOOP
        WITH woken AS (
            DELETE FROM outbound_wake WHERE wake_id IN (
                SELECT wake_id FROM outbound_wake ORDER BY wake_id LIMIT 5000 FOR UPDATE SKIP LOCKED)
            RETURNING sender, urgency, due_at),
        folded AS (
            INSERT INTO outbound_lane AS l (sender, urgency, turn_at)
            SELECT sender, urgency, min(due_at) FROM woken GROUP BY sender, urgency ORDER BY sender, urgency
                ON CONFLICT (sender, urgency) DO UPDATE SET turn_at = least(l.turn_at, excluded.turn_at), passed = 0)
        SELECT count(*) INTO v_count FROM woken;
        EXIT WHEN v_count < 5000;
    END LOOP;
    v_now := clock_timestamp();
    v_until := greatest(v_now + make_interval(secs => p_seconds), v_now + interval '1 microsecond'); -- not due again within this call
    FOREACH v_urgency IN ARRAY ARRAY[1, 0, -1]::smallint[] LOOP
        -- What is urgent goes first and gets half, so that it can hold up nobody; a tenth is for what is less than normal.
        v_room := p_limit;
        IF v_urgency > -1 AND EXISTS (SELECT FROM outbound_lane WHERE urgency = -1 AND turn_at <= v_now)
           OR v_urgency > 0 AND EXISTS (SELECT FROM outbound_lane WHERE urgency = 0 AND turn_at <= v_now) THEN
            v_room := CASE v_urgency WHEN 1 THEN (p_limit + 1) / 2 ELSE p_limit - p_limit / 10 END;
        END IF;
        WHILE cardinality(v_taken) < v_room AND v_looks < 1000 LOOP
            SELECT array_agg(l.sender), array_agg(l.next_domain), count(*) INTO v_senders, v_cursors, v_count
              FROM (SELECT sender, next_domain FROM outbound_lane
                     WHERE urgency = v_urgency AND turn_at <= v_now AND NOT sender = ANY (p_senders)
                     ORDER BY turn_at LIMIT v_room - cardinality(v_taken) FOR UPDATE SKIP LOCKED) AS l;
            EXIT WHEN v_count = 0;
            -- Eight at least: the recipients of one message at one domain should not come one by one.
            v_share := greatest(8, (v_room - cardinality(v_taken)) / v_count);
            FOR v_lane IN 1 .. v_count LOOP
                EXIT WHEN cardinality(v_taken) >= v_room;
                v_looks := v_looks + 1;
                SELECT * INTO v_turn
                  FROM lease_lane(v_senders[v_lane], v_urgency, v_cursors[v_lane], least(v_share, v_room - cardinality(v_taken)),
                                  v_now, v_until, p_by, p_excluded);
                v_taken := v_taken || v_turn.taken;
                SELECT r.next_attempt_at INTO v_due FROM outbound_recipient AS r
                 WHERE r.state = 'waiting' AND r.sender = v_senders[v_lane] AND r.urgency = v_urgency
                 ORDER BY r.next_attempt_at LIMIT 1;
                IF v_due IS NULL THEN
                    DELETE FROM outbound_lane WHERE sender = v_senders[v_lane] AND urgency = v_urgency;
                    CONTINUE;
                END IF;
                UPDATE outbound_lane AS l
                   SET next_domain = v_turn.reached,
                       turn_at = CASE WHEN v_due > v_now THEN v_due WHEN cardinality(v_turn.taken) > 0 THEN v_now
                                      ELSE v_now + make_interval(secs => least(p_pause, 0.1 * 2 ^ least(l.passed, 20))) END,
                       passed = CASE WHEN v_due <= v_now AND v_turn.is_over AND cardinality(v_turn.taken) = 0 THEN l.passed + 1 ELSE 0 END
                 WHERE l.sender = v_senders[v_lane] AND l.urgency = v_urgency;
            END LOOP;
        END LOOP;
    END LOOP;
    RETURN v_taken;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON outbound_attempt, outbound_lane, outbound_wake TO postwerk_daemon;
GRANT SELECT, INSERT, DELETE ON outbound_removal TO postwerk_daemon; -- DELETE: the keeper, when their time is over
