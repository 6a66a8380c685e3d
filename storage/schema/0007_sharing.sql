-- Sharing: access control lists (RFC 4314), accounts of teams, and \Seen kept for each viewer where a mailbox says so.

-- ---------------------------------------------------------------- teams

-- A team owns mailboxes and receives mail like a person, but nobody can log in to it.
ALTER TABLE account
    ADD kind        text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'team')),
    ADD shared_name text CHECK (shared_name <> '' AND shared_name !~ '[/%*[:cntrl:]]'), -- of a team, below "Shared/"
    ADD CHECK ((kind = 'team') = (shared_name IS NOT NULL)),
    ADD UNIQUE (tenant_id, shared_name),
    ADD UNIQUE (account_id, tenant_id);

-- ---------------------------------------------------------------- access control lists

-- The owner of a mailbox has all rights without a row. What others have: all that is granted to them or to anyone, less all
-- that is denied to them or to anyone. The foreign key keeps tenants apart, whatever a program does.
CREATE TABLE mailbox_acl (
    mailbox_id  bigint NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    tenant_id   bigint NOT NULL,
    account_id  bigint,                         -- NULL: "anyone", which is everybody of the tenant
    is_negative boolean NOT NULL DEFAULT false,
    rights      text NOT NULL CHECK (rights ~ '^[lrswipkxtea]+$'),
    UNIQUE NULLS NOT DISTINCT (mailbox_id, account_id, is_negative),
    FOREIGN KEY (account_id, tenant_id) REFERENCES account (account_id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX mailbox_acl_account ON mailbox_acl (account_id);
CREATE INDEX mailbox_acl_anyone ON mailbox_acl (tenant_id) WHERE account_id IS NULL;

CREATE FUNCTION check_mailbox_acl() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM mailbox WHERE mailbox_id = NEW.mailbox_id AND tenant_id = NEW.tenant_id) THEN
        RAISE EXCEPTION 'mailbox % is not of tenant %', NEW.mailbox_id, NEW.tenant_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER mailbox_acl_tenant BEFORE INSERT OR UPDATE ON mailbox_acl FOR EACH ROW EXECUTE FUNCTION check_mailbox_acl();

-- Processes forget what they knew of rights, and sessions that have the mailbox selected look again: in this order.
CREATE FUNCTION notify_sharing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_sharing', '');
    PERFORM pg_notify('postwerk_mailbox', coalesce(NEW.mailbox_id, OLD.mailbox_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER mailbox_acl_changed AFTER INSERT OR UPDATE OR DELETE ON mailbox_acl
    FOR EACH ROW EXECUTE FUNCTION notify_sharing();

-- ---------------------------------------------------------------- \Seen of each viewer

-- Where false, \Seen of everybody but the owner is in viewer_seen, and that of message.flags is the owner's.
ALTER TABLE mailbox ADD is_seen_shared boolean NOT NULL DEFAULT true;
CREATE TRIGGER mailbox_seen_changed AFTER UPDATE OF is_seen_shared ON mailbox
    FOR EACH ROW WHEN (OLD.is_seen_shared <> NEW.is_seen_shared) EXECUTE FUNCTION notify_sharing();

-- No row: not seen. A row with is_seen = false remembers the MODSEQ of the removal. uid before account_id: an expunge removes
-- the rows of all viewers.
CREATE TABLE viewer_seen (
    mailbox_id bigint NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    uid        bigint NOT NULL,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    modseq     bigint NOT NULL,
    is_seen    boolean NOT NULL,
    PRIMARY KEY (mailbox_id, uid, account_id)
);
CREATE INDEX viewer_seen_modseq ON viewer_seen (mailbox_id, account_id, modseq);
CREATE INDEX viewer_seen_account ON viewer_seen (account_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON mailbox_acl, viewer_seen TO postwerk_daemon;

-- ---------------------------------------------------------------- messages of a viewer

-- STATUS (DELETED DELETED-STORAGE), RFC 9051 §6.3.11, RFC 9208 §4.1.4, and what EXPUNGE looks for.
CREATE INDEX message_deleted ON message (mailbox_id) INCLUDE (size_octets) WHERE flags & 8 <> 0;

-- store_flags() for a viewer (0: \Seen of message.flags) who may change only some flags: p_may holds their bits, and 32 for
-- keywords. What it may not change stays as it is.
CREATE FUNCTION store_flags_as(p_mailbox bigint, p_uids bigint[], p_operation text, p_flags smallint, p_keywords text[],
                               p_unchanged bigint, p_viewer bigint, p_may smallint)
RETURNS TABLE (uid bigint, modseq bigint, flags smallint, keywords text[], size_octets bigint, internaldate timestamptz,
               content_id bigint, refused boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
BEGIN
    RETURN QUERY
    WITH present AS MATERIALIZED (
        SELECT m.uid, m.keywords, m.size_octets, m.internaldate, m.content_id, greatest(m.modseq, s.modseq) AS modseq,
               CASE WHEN p_viewer = 0 THEN m.flags ELSE ((m.flags & ~1) | coalesce(s.is_seen, false)::int)::smallint END AS flags
          FROM unnest(p_uids) AS wanted (uid) JOIN message AS m ON m.mailbox_id = p_mailbox AND m.uid = wanted.uid
          LEFT JOIN viewer_seen AS s ON s.mailbox_id = p_mailbox AND s.uid = m.uid AND s.account_id = p_viewer),
    target AS MATERIALIZED (
        SELECT p.*, coalesce(p.modseq > p_unchanged, false) AS refused,
               ((p.flags & ~p_may) | (combined_flags(p_operation, p.flags, p_flags) & p_may))::smallint AS new_flags,
               CASE WHEN p_may & 32 = 0 THEN p.keywords
                    ELSE combined_keywords(p_operation, p.keywords, p_keywords) END AS new_keywords
          FROM present AS p),
    changed AS MATERIALIZED (
        SELECT * FROM target AS t WHERE NOT t.refused AND (t.flags, t.keywords) IS DISTINCT FROM (t.new_flags, t.new_keywords)),
    updated AS (
        UPDATE message AS m
           SET flags = CASE WHEN p_viewer = 0 THEN c.new_flags ELSE ((c.new_flags & ~1) | (m.flags & 1))::smallint END,
               keywords = c.new_keywords, modseq = v_modseq
          FROM changed AS c
         WHERE m.mailbox_id = p_mailbox AND m.uid = c.uid
           AND (p_viewer = 0 OR (c.flags & ~1, c.keywords) IS DISTINCT FROM (c.new_flags & ~1, c.new_keywords))),
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
     RETURNING pg_notify('postwerk_mailbox', p_mailbox::text))
    SELECT c.uid, v_modseq, c.new_flags, c.new_keywords, c.size_octets, c.internaldate, c.content_id, false FROM changed AS c
     UNION ALL
    SELECT t.uid, 0, 0::smallint, NULL::text[], 0, NULL::timestamptz, 0, true FROM target AS t WHERE t.refused
     ORDER BY 1;
END $$;

-- copy_messages() from what one viewer sees to what another does, with only those flags that may be set (RFC 4314 §4).
CREATE FUNCTION copy_messages_as(p_source bigint, p_uids bigint[], p_target bigint, p_source_viewer bigint,
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
    WITH source AS MATERIALIZED (
        SELECT m.uid, m.content_id, m.size_octets, m.internaldate, v_box.uidnext + row_number() OVER (ORDER BY m.uid) - 1 AS new_uid,
               CASE WHEN p_may & 32 <> 0 THEN m.keywords END AS keywords,
               (p_may & CASE WHEN p_source_viewer = 0 THEN m.flags ELSE (m.flags & ~1) | coalesce(s.is_seen, false)::int END)::smallint
                   AS flags
          FROM unnest(p_uids) AS wanted (uid) JOIN message AS m ON m.mailbox_id = p_source AND m.uid = wanted.uid
          LEFT JOIN viewer_seen AS s ON s.mailbox_id = p_source AND s.uid = m.uid AND s.account_id = p_source_viewer),
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
     RETURNING pg_notify('postwerk_mailbox', p_target::text))
    SELECT v_box.uidvalidity, k.uid, k.new_uid FROM kept AS k ORDER BY k.uid;
END $$;

CREATE FUNCTION move_messages_as(p_source bigint, p_uids bigint[], p_target bigint, p_source_viewer bigint,
                                 p_target_viewer bigint, p_may smallint)
RETURNS TABLE (uidvalidity bigint, source_uid bigint, target_uid bigint)
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM copy_messages_as(p_source, p_uids, p_target, p_source_viewer, p_target_viewer, p_may);
    PERFORM remove_messages(p_source, p_uids, false);
END $$;

-- As before, and what viewers had seen of the removed messages is forgotten. Whoever replaces this function keeps that.
CREATE OR REPLACE FUNCTION remove_messages(p_mailbox bigint, p_uids bigint[], p_deleted_only boolean) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := locked_modseq(p_mailbox);
    v_uids bigint[];
BEGIN
    IF p_uids IS NULL THEN
        p_uids := ARRAY(SELECT uid FROM message WHERE mailbox_id = p_mailbox AND (NOT p_deleted_only OR flags & 8 <> 0));
    END IF;
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
    SELECT array_agg(r.uid ORDER BY r.uid) INTO v_uids FROM removed AS r;
    PERFORM FROM mailbox WHERE mailbox_id = p_mailbox AND NOT is_seen_shared;
    IF FOUND THEN
        DELETE FROM viewer_seen AS s USING unnest(v_uids) AS gone (uid) WHERE s.mailbox_id = p_mailbox AND s.uid = gone.uid;
    END IF;
    RETURN QUERY SELECT unnest(v_uids);
END $$;
