-- POP3 policies and login times (RFC 2449 §6.5, §6.7), and cheaper writes to mailboxes.

-- ---------------------------------------------------------------- POP3

-- last_fetch_at: when mail was last fetched, by whatever protocol (inactivity rules). pop3_login_at: what LOGIN-DELAY counts from.
-- Both change with every poll: no index on them, and room in the page.
ALTER TABLE account ADD pop3_login_at timestamptz;
ALTER TABLE account SET (fillfactor = 70);

-- Only accounts that differ from the configuration have a row.
CREATE TABLE pop3_policy (
    account_id          bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    login_delay_seconds integer CHECK (login_delay_seconds BETWEEN 0 AND 86400), -- NULL: as configured
    expire_days         integer CHECK (expire_days BETWEEN 0 AND 36500),         -- NULL: never; 0: what was retrieved goes at QUIT
    CHECK (login_delay_seconds IS NOT NULL OR expire_days IS NOT NULL)
);
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON pop3_policy
    FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();
GRANT SELECT ON pop3_policy TO postwerk_daemon;

-- One POP3 login: take the maildrop's advisory lock, see that the last login is long enough ago, and note this one.
-- p_delay: the configured login delay in seconds; NULL for whom no delay holds. An empty maildrop is not locked: is_locked is NULL.
-- The counters are read again under the lock, so that they are of the state that the session before has left.
CREATE FUNCTION open_maildrop(p_account bigint, p_lock bigint, p_delay integer)
RETURNS TABLE (mailbox_id bigint, uidvalidity bigint, highestmodseq bigint, message_count bigint, is_locked boolean,
               wait_seconds integer, login_delay integer, expire_days integer, language text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_box mailbox%ROWTYPE;
BEGIN
    -- A login time that a crash loses lets somebody in some seconds early: not worth a wait for the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO v_box FROM mailbox WHERE account_id = p_account AND name = 'INBOX';
    IF v_box.mailbox_id IS NULL THEN
        RETURN;
    END IF;
    SELECT CASE WHEN p_delay IS NULL THEN 0 ELSE coalesce(p.login_delay_seconds, p_delay) END, p.expire_days, t.language
      INTO login_delay, expire_days, language
      FROM account AS a JOIN tenant AS t USING (tenant_id) LEFT JOIN pop3_policy AS p USING (account_id)
     WHERE a.account_id = p_account;
    IF v_box.message_count > 0 THEN
        is_locked := pg_try_advisory_lock(p_lock);
        IF is_locked THEN
            SELECT * INTO v_box FROM mailbox AS b WHERE b.mailbox_id = v_box.mailbox_id;
        END IF;
    END IF;
    IF is_locked IS DISTINCT FROM false THEN
        -- The row's lock lets one of two logins at the same moment see the other. A time in the future is a clock that was set back.
        UPDATE account AS a
           SET last_fetch_at = clock_timestamp(),
               pop3_login_at = CASE WHEN p_delay IS NULL THEN a.pop3_login_at ELSE clock_timestamp() END
         WHERE a.account_id = p_account
           AND (login_delay = 0 OR a.pop3_login_at IS NULL
                OR a.pop3_login_at <= clock_timestamp() - make_interval(secs => login_delay)
                OR a.pop3_login_at > clock_timestamp() + interval '1 minute');
        IF NOT FOUND THEN
            SELECT greatest(1, ceil(extract(epoch FROM a.pop3_login_at - clock_timestamp()) + login_delay))::integer
              INTO wait_seconds FROM account AS a WHERE a.account_id = p_account;
            wait_seconds := coalesce(wait_seconds, login_delay);
            IF is_locked THEN
                PERFORM pg_advisory_unlock(p_lock);
            END IF;
            is_locked := NULL;
        END IF;
    END IF;
    mailbox_id := v_box.mailbox_id;
    uidvalidity := v_box.uidvalidity;
    highestmodseq := v_box.highestmodseq;
    message_count := v_box.message_count;
    RETURN NEXT;
END $$;

-- ---------------------------------------------------------------- cheaper changes of flags

-- A change of flags shall touch no index (a heap-only tuple), or a STORE of 1,000 messages writes 4,000 index entries. So
-- neither flags nor modseq is in an index, and pages keep room for the new versions. What changed since a MODSEQ is found by:
-- - new messages: those above the last UID whose MODSEQ is not newer, as first MODSEQs ascend with UIDs;
-- - changed ones: by this log, one row per STORE. Its ranges may hold more than was changed; message.modseq decides.
DROP INDEX message_modseq, message_deleted;
ALTER TABLE message SET (fillfactor = 80);

CREATE TABLE message_change (
    mailbox_id bigint NOT NULL,
    modseq     bigint NOT NULL,
    lows       bigint[] NOT NULL,               -- ranges of UIDs, ends included
    highs      bigint[] NOT NULL,
    PRIMARY KEY (mailbox_id, modseq)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON message_change TO postwerk_daemon;

-- Changes up to this MODSEQ are no longer all in the log: who asks from before it has all messages looked through.
ALTER TABLE mailbox ADD changes_forgotten bigint NOT NULL DEFAULT 0;
UPDATE mailbox SET changes_forgotten = highestmodseq;

-- These foreign keys cost a query for each row that is written, and hold nothing that the mailbox row's lock does not hold
-- already: who places messages or removes them has locked the row, or made it. What is left to see to is the deletion of
-- a mailbox, which waits for that lock, and then looks.
ALTER TABLE message DROP CONSTRAINT message_mailbox_id_fkey;
ALTER TABLE expunged DROP CONSTRAINT expunged_mailbox_id_fkey;

CREATE FUNCTION forget_mailbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM message WHERE mailbox_id = OLD.mailbox_id) THEN
        RAISE EXCEPTION 'mailbox % still has messages', OLD.mailbox_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    DELETE FROM expunged WHERE mailbox_id = OLD.mailbox_id;
    DELETE FROM message_change WHERE mailbox_id = OLD.mailbox_id;
    RETURN OLD;
END $$;
CREATE TRIGGER mailbox_forgotten BEFORE DELETE ON mailbox FOR EACH ROW EXECUTE FUNCTION forget_mailbox();

DROP FUNCTION store_flags(bigint, bigint[], text, smallint, text[], bigint);
DROP FUNCTION store_flags_as(bigint, bigint[], text, smallint, text[], bigint, bigint, smallint);
DROP FUNCTION move_messages(bigint, bigint[], bigint);
DROP FUNCTION move_messages_as(bigint, bigint[], bigint, bigint, bigint, smallint);
DROP FUNCTION copy_messages(bigint, bigint[], bigint);
DROP FUNCTION copy_messages_as(bigint, bigint[], bigint, bigint, bigint, smallint);
DROP FUNCTION remove_messages(bigint, bigint[], boolean);

-- Below, p_lows and p_highs are ranges of UIDs, ascending and disjoint, ends included. p_viewer, p_source_viewer and
-- p_target_viewer: the account whose own \Seen is meant (0007_sharing.sql), 0 for that of message.flags. p_may holds the bits of the
-- flags that may change, and 32 for keywords. Rows of a mailbox are changed under the mailbox row's lock only, so a ctid that was
-- read under it stays what it is until the end of the statement. LATERAL with OFFSET 0 has each range looked up in the index:
-- a plan that was made while the tables were small must not read the whole mailbox later.

-- Rows with refused = true were not touched: their MODSEQ is above p_unchanged (RFC 7162 §3.1.3).
CREATE FUNCTION store_flags(p_mailbox bigint, p_lows bigint[], p_highs bigint[], p_operation text, p_flags smallint,
                            p_keywords text[], p_unchanged bigint, p_viewer bigint, p_may smallint)
RETURNS TABLE (uid bigint, modseq bigint, flags smallint, keywords text[], size_octets bigint, internaldate timestamptz,
               content_id bigint, refused boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
    v_keeps_keywords boolean := p_may & 32 = 0 OR (p_operation <> 'replace' AND p_keywords = '{}');
BEGIN
    RETURN QUERY
    WITH present AS (
        SELECT m.ctid AS place, m.uid, m.keywords, m.size_octets, m.internaldate, m.content_id,
               CASE WHEN p_viewer = 0 THEN m.modseq ELSE greatest(m.modseq, s.modseq) END AS modseq,
               CASE WHEN p_viewer = 0 THEN m.flags ELSE ((m.flags & ~1) | coalesce(s.is_seen, false)::int)::smallint END AS flags
          FROM unnest(p_lows, p_highs) AS wanted (low, high),
               LATERAL (SELECT ctid, * FROM message
                         WHERE mailbox_id = p_mailbox AND uid BETWEEN wanted.low AND wanted.high OFFSET 0) AS m
          LEFT JOIN LATERAL (SELECT modseq, is_seen FROM viewer_seen
                              WHERE mailbox_id = p_mailbox AND uid = m.uid AND account_id = p_viewer OFFSET 0) AS s
            ON p_viewer <> 0),
    target AS MATERIALIZED (
        SELECT p.*, coalesce(p.modseq > p_unchanged, false) AS refused,
               ((p.flags & ~p_may) | (combined_flags(p_operation, p.flags, p_flags) & p_may))::smallint AS new_flags,
               CASE WHEN v_keeps_keywords THEN p.keywords WHEN p_operation = 'replace' THEN nullif(p_keywords, '{}')
                    ELSE combined_keywords(p_operation, p.keywords, p_keywords) END AS new_keywords
          FROM present AS p),
    changed AS MATERIALIZED (
        SELECT * FROM target AS t WHERE NOT t.refused AND (t.flags, t.keywords) IS DISTINCT FROM (t.new_flags, t.new_keywords)),
    updated AS (
        UPDATE message AS m
           SET flags = CASE WHEN p_viewer = 0 THEN c.new_flags ELSE ((c.new_flags & ~1) | (m.flags & 1))::smallint END,
               keywords = c.new_keywords, modseq = v_modseq
          FROM changed AS c
         WHERE m.ctid = c.place
           AND (p_viewer = 0 OR (c.flags & ~1, c.keywords) IS DISTINCT FROM (c.new_flags & ~1, c.new_keywords))
     RETURNING 1),
    logged AS (
        INSERT INTO message_change (mailbox_id, modseq, lows, highs)
        SELECT p_mailbox, v_modseq, p_lows, p_highs WHERE EXISTS (SELECT FROM updated)),
    viewed AS (
        INSERT INTO viewer_seen AS s (mailbox_id, uid, account_id, modseq, is_seen)
        SELECT p_mailbox, c.uid, p_viewer, v_modseq, c.new_flags & 1 <> 0
          FROM changed AS c WHERE p_viewer <> 0 AND (c.flags & 1) <> (c.new_flags & 1)
            ON CONFLICT (mailbox_id, uid, account_id) DO UPDATE SET modseq = EXCLUDED.modseq, is_seen = EXCLUDED.is_seen),
    counted AS (
        UPDATE mailbox AS b
           SET highestmodseq = v_modseq,
               unseen_count = b.unseen_count + CASE WHEN p_viewer = 0 THEN
                   (SELECT coalesce(sum((c.flags & 1) - (c.new_flags & 1)), 0) FROM changed AS c) ELSE 0 END
         WHERE b.mailbox_id = p_mailbox AND EXISTS (SELECT FROM changed)
     RETURNING pg_notify('postwerk_mailbox', p_mailbox || ':' || v_modseq))
    SELECT c.uid, v_modseq, c.new_flags, c.new_keywords, c.size_octets, c.internaldate, c.content_id, false FROM changed AS c
     UNION ALL
    SELECT t.uid, 0, 0::smallint, NULL::text[], 0, NULL::timestamptz, 0, true FROM target AS t WHERE t.refused
     ORDER BY 1;
END $$;

-- Place copies in p_target, in ascending order of the source's UIDs. The locks are taken in ascending mailbox_id.
CREATE FUNCTION copy_messages(p_source bigint, p_lows bigint[], p_highs bigint[], p_target bigint, p_source_viewer bigint,
                              p_target_viewer bigint, p_may smallint)
RETURNS TABLE (uidvalidity bigint, source_uid bigint, target_uid bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_box mailbox%ROWTYPE;
BEGIN
    PERFORM FROM mailbox WHERE mailbox_id IN (p_source, p_target) ORDER BY mailbox_id FOR NO KEY UPDATE;
    SELECT * INTO v_box FROM mailbox WHERE mailbox_id = p_target AND is_selectable;
    IF v_box.mailbox_id IS NULL OR NOT EXISTS (SELECT FROM mailbox WHERE mailbox_id = p_source AND tenant_id = v_box.tenant_id) THEN
        RAISE EXCEPTION 'mailbox % or % is gone', p_source, p_target USING ERRCODE = 'PW404';
    END IF;
    RETURN QUERY
    WITH source AS (
        SELECT m.uid, m.content_id, m.size_octets, m.internaldate, v_box.uidnext + row_number() OVER (ORDER BY m.uid) - 1 AS new_uid,
               CASE WHEN p_may & 32 <> 0 THEN m.keywords END AS keywords,
               (p_may & CASE WHEN p_source_viewer = 0 THEN m.flags ELSE (m.flags & ~1) | coalesce(s.is_seen, false)::int END)::smallint
                   AS flags
          FROM unnest(p_lows, p_highs) AS wanted (low, high),
               LATERAL (SELECT * FROM message
                         WHERE mailbox_id = p_source AND uid BETWEEN wanted.low AND wanted.high OFFSET 0) AS m
          LEFT JOIN LATERAL (SELECT is_seen FROM viewer_seen
                              WHERE mailbox_id = p_source AND uid = m.uid AND account_id = p_source_viewer OFFSET 0) AS s
            ON p_source_viewer <> 0),
    kept AS MATERIALIZED (
        SELECT s.*, CASE WHEN p_target_viewer = 0 THEN s.flags ELSE (s.flags & ~1)::smallint END AS kept_flags FROM source AS s),
    placed AS (
        INSERT INTO message (mailbox_id, uid, modseq, content_id, flags, keywords, size_octets, internaldate)
        SELECT p_target, k.new_uid, v_box.highestmodseq + 1, k.content_id, k.kept_flags, k.keywords, k.size_octets, k.internaldate
          FROM kept AS k),
    viewed AS (
        INSERT INTO viewer_seen (mailbox_id, uid, account_id, modseq, is_seen)
        SELECT p_target, k.new_uid, p_target_viewer, v_box.highestmodseq + 1, true
          FROM kept AS k WHERE p_target_viewer <> 0 AND k.flags & 1 <> 0),
    counted AS (
        UPDATE mailbox AS b
           SET uidnext = b.uidnext + t.messages, highestmodseq = b.highestmodseq + 1, message_count = b.message_count + t.messages,
               unseen_count = b.unseen_count + t.unseen, size_octets = b.size_octets + t.octets
          FROM (SELECT count(*) AS messages, count(*) FILTER (WHERE k.kept_flags & 1 = 0) AS unseen,
                       coalesce(sum(k.size_octets), 0) AS octets FROM kept AS k) AS t
         WHERE b.mailbox_id = p_target AND t.messages > 0
     RETURNING pg_notify('postwerk_mailbox', p_target || ':' || v_box.highestmodseq + 1))
    SELECT v_box.uidvalidity, k.uid, k.new_uid FROM kept AS k ORDER BY k.uid;
END $$;

-- Remove the messages of these ranges (NULL: all), of them only those with \Deleted where p_deleted_only, and what viewers had
-- seen of them. Returns the removed UIDs.
CREATE FUNCTION remove_messages(p_mailbox bigint, p_lows bigint[], p_highs bigint[], p_deleted_only boolean) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
    v_uids bigint[];
BEGIN
    IF p_lows IS NULL THEN
        p_lows := '{0}';
        p_highs := '{9223372036854775807}';
    END IF;
    WITH doomed AS MATERIALIZED (
        SELECT m.ctid AS place
          FROM unnest(p_lows, p_highs) AS wanted (low, high),
               LATERAL (SELECT ctid, flags FROM message
                         WHERE mailbox_id = p_mailbox AND uid BETWEEN wanted.low AND wanted.high OFFSET 0) AS m
         WHERE NOT p_deleted_only OR m.flags & 8 <> 0),
    removed AS (
        DELETE FROM message AS m USING doomed AS d WHERE m.ctid = d.place
     RETURNING m.uid, m.flags, m.size_octets),
    vanished AS (
        INSERT INTO expunged (mailbox_id, modseq, uid) SELECT p_mailbox, v_modseq, r.uid FROM removed AS r),
    counted AS (
        UPDATE mailbox AS b
           SET highestmodseq = v_modseq, message_count = b.message_count - t.messages,
               unseen_count = b.unseen_count - t.unseen, size_octets = b.size_octets - t.octets
          FROM (SELECT count(*) AS messages, count(*) FILTER (WHERE r.flags & 1 = 0) AS unseen,
                       coalesce(sum(r.size_octets), 0) AS octets FROM removed AS r) AS t
         WHERE b.mailbox_id = p_mailbox AND t.messages > 0
     RETURNING pg_notify('postwerk_mailbox', p_mailbox || ':' || v_modseq))
    SELECT array_agg(r.uid ORDER BY r.uid) INTO v_uids FROM removed AS r;
    PERFORM FROM mailbox WHERE mailbox_id = p_mailbox AND NOT is_seen_shared;
    IF FOUND THEN
        DELETE FROM viewer_seen AS s USING unnest(v_uids) AS gone (uid) WHERE s.mailbox_id = p_mailbox AND s.uid = gone.uid;
    END IF;
    RETURN QUERY SELECT unnest(v_uids);
END $$;

-- Copy, then remove from the source, in one transaction (RFC 6851 §3.3).
CREATE FUNCTION move_messages(p_source bigint, p_lows bigint[], p_highs bigint[], p_target bigint, p_source_viewer bigint,
                              p_target_viewer bigint, p_may smallint)
RETURNS TABLE (uidvalidity bigint, source_uid bigint, target_uid bigint)
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM copy_messages(p_source, p_lows, p_highs, p_target, p_source_viewer, p_target_viewer, p_may);
    PERFORM remove_messages(p_source, p_lows, p_highs, false);
END $$;
