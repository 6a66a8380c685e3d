-- What sessions do to the messages of a mailbox. Each function takes the mailbox row's lock first; in READ COMMITTED every
-- statement of a plpgsql function has a snapshot of its own, so what follows the lock sees all that was committed before it.
-- One call is one round trip, whatever the number of messages. UIDs come in through unnest and a join: under a generic plan
-- `uid = ANY (…)` may read the whole mailbox, the join looks each one up.

CREATE FUNCTION locked_modseq(p_mailbox bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint;
BEGIN
    SELECT highestmodseq + 1 INTO v_modseq FROM mailbox WHERE mailbox_id = p_mailbox FOR NO KEY UPDATE;
    IF v_modseq IS NULL THEN
        RAISE EXCEPTION 'mailbox % is gone', p_mailbox USING ERRCODE = 'PW404';
    END IF;
    RETURN v_modseq;
END $$;

-- Flags and keywords after "add", "remove" or "replace"; NULL is the empty keyword list.
CREATE FUNCTION combined_keywords(p_operation text, p_old text[], p_given text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_operation
        WHEN 'replace' THEN nullif(p_given, '{}')
        WHEN 'add' THEN nullif(coalesce(p_old, '{}') || ARRAY(SELECT k FROM unnest(p_given) AS k WHERE k <> ALL (coalesce(p_old, '{}'))), '{}')
        ELSE nullif(ARRAY(SELECT k FROM unnest(p_old) AS k WHERE k <> ALL (p_given)), '{}') END
$$;

CREATE FUNCTION combined_flags(p_operation text, p_old smallint, p_given smallint) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_operation WHEN 'replace' THEN p_given WHEN 'add' THEN p_old | p_given ELSE p_old & ~p_given END
$$;

-- Rows with refused = true were not touched: their MODSEQ is above p_unchanged (RFC 7162 §3.1.3).
CREATE FUNCTION store_flags(p_mailbox bigint, p_uids bigint[], p_operation text, p_flags smallint, p_keywords text[], p_unchanged bigint)
RETURNS TABLE (uid bigint, modseq bigint, flags smallint, keywords text[], size_octets bigint, internaldate timestamptz,
               content_id bigint, refused boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
BEGIN
    RETURN QUERY
    WITH target AS MATERIALIZED (
        SELECT m.uid, m.flags AS old_flags, coalesce(m.modseq > p_unchanged, false) AS refused,
               combined_flags(p_operation, m.flags, p_flags) AS new_flags,
               combined_keywords(p_operation, m.keywords, p_keywords) AS new_keywords
          FROM unnest(p_uids) AS wanted (uid) JOIN message AS m ON m.mailbox_id = p_mailbox AND m.uid = wanted.uid),
    updated AS (
        UPDATE message AS m SET flags = t.new_flags, keywords = t.new_keywords, modseq = v_modseq
          FROM target AS t
         WHERE m.mailbox_id = p_mailbox AND m.uid = t.uid AND NOT t.refused
           AND (m.flags, m.keywords) IS DISTINCT FROM (t.new_flags, t.new_keywords)
     RETURNING m.uid, m.modseq, m.flags, m.keywords, m.size_octets, m.internaldate, m.content_id, t.old_flags),
    counted AS (
        UPDATE mailbox AS b
           SET highestmodseq = v_modseq,
               unseen_count = b.unseen_count + (SELECT coalesce(sum((u.old_flags & 1) - (u.flags & 1)), 0) FROM updated AS u)
         WHERE b.mailbox_id = p_mailbox AND EXISTS (SELECT FROM updated)
     RETURNING pg_notify('postwerk_mailbox', p_mailbox::text))
    SELECT u.uid, u.modseq, u.flags, u.keywords, u.size_octets, u.internaldate, u.content_id, false FROM updated AS u
     UNION ALL
    SELECT t.uid, 0, 0::smallint, NULL::text[], 0, NULL::timestamptz, 0, true FROM target AS t WHERE t.refused
     ORDER BY 1;
END $$;

-- Place copies in p_target, in ascending order of the source's UIDs. The locks are taken in ascending mailbox_id.
CREATE FUNCTION copy_messages(p_source bigint, p_uids bigint[], p_target bigint)
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
    WITH source AS MATERIALIZED (
        SELECT m.*, v_box.uidnext + row_number() OVER (ORDER BY m.uid) - 1 AS new_uid
          FROM unnest(p_uids) AS wanted (uid) JOIN message AS m ON m.mailbox_id = p_source AND m.uid = wanted.uid),
    placed AS (
        INSERT INTO message (mailbox_id, uid, modseq, content_id, flags, keywords, size_octets, internaldate)
        SELECT p_target, s.new_uid, v_box.highestmodseq + 1, s.content_id, s.flags, s.keywords, s.size_octets, s.internaldate
          FROM source AS s),
    counted AS (
        UPDATE mailbox AS b
           SET uidnext = b.uidnext + t.messages, highestmodseq = b.highestmodseq + 1, message_count = b.message_count + t.messages,
               unseen_count = b.unseen_count + t.unseen, size_octets = b.size_octets + t.octets
          FROM (SELECT count(*) AS messages, count(*) FILTER (WHERE s.flags & 1 = 0) AS unseen,
                       coalesce(sum(s.size_octets), 0) AS octets FROM source AS s) AS t
         WHERE b.mailbox_id = p_target AND t.messages > 0
     RETURNING pg_notify('postwerk_mailbox', p_target::text))
    SELECT v_box.uidvalidity, s.uid, s.new_uid FROM source AS s ORDER BY s.uid;
END $$;

-- Remove the messages among p_uids (NULL: all), of them only those with \Deleted where p_deleted_only. Returns the removed UIDs.
CREATE FUNCTION remove_messages(p_mailbox bigint, p_uids bigint[], p_deleted_only boolean) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
BEGIN
    IF p_uids IS NULL THEN
        p_uids := ARRAY(SELECT uid FROM message WHERE mailbox_id = p_mailbox AND (NOT p_deleted_only OR flags & 8 <> 0));
    END IF;
    RETURN QUERY
    WITH removed AS (
        DELETE FROM message AS m USING unnest(p_uids) AS wanted (uid)
         WHERE m.mailbox_id = p_mailbox AND m.uid = wanted.uid AND (NOT p_deleted_only OR m.flags & 8 <> 0)
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
     RETURNING pg_notify('postwerk_mailbox', p_mailbox::text))
    SELECT r.uid FROM removed AS r ORDER BY r.uid;
END $$;

-- Copy, then remove from the source, in one transaction (RFC 6851 §3.3).
CREATE FUNCTION move_messages(p_source bigint, p_uids bigint[], p_target bigint)
RETURNS TABLE (uidvalidity bigint, source_uid bigint, target_uid bigint)
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM copy_messages(p_source, p_uids, p_target);
    PERFORM remove_messages(p_source, p_uids, false);
END $$;
