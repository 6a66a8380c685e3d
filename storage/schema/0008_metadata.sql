-- Annotations (RFC 5464), room for mail (RFC 9208), and what tells sessions that an account's mailboxes, subscriptions or
-- annotations changed (RFC 5465).

-- ---------------------------------------------------------------- room

ALTER TABLE account
    ADD COLUMN quota_messages   bigint CHECK (quota_messages >= 0), -- NULL: no limit
    ADD COLUMN is_administrator boolean NOT NULL DEFAULT false;     -- of its tenant: may set the limits of the tenant's accounts

-- Room promised to messages that are about to be stored, so that parallel sessions cannot all fill the same last megabyte.
-- A row lives for milliseconds; what a crash leaves behind counts no more when it has expired.
CREATE UNLOGGED TABLE quota_hold (
    hold_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL,
    account_id    bigint NOT NULL,
    size_octets   bigint NOT NULL,
    message_count bigint NOT NULL,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX quota_hold_account ON quota_hold (account_id);
CREATE INDEX quota_hold_tenant ON quota_hold (tenant_id);

-- How much more the account may store: by its own limits and by what the tenant's pool has left. NULL: no limit; may be negative.
CREATE FUNCTION room_left(p_account bigint) RETURNS TABLE (octets bigint, messages bigint) LANGUAGE sql STABLE AS $$
    SELECT least(
               CASE WHEN a.quota_octets IS NOT NULL THEN a.quota_octets
                   - (SELECT coalesce(sum(size_octets), 0) FROM mailbox WHERE account_id = a.account_id)
                   - (SELECT coalesce(sum(size_octets), 0) FROM quota_hold WHERE account_id = a.account_id AND expires_at > now()) END,
               CASE WHEN t.quota_octets IS NOT NULL THEN t.quota_octets
                   - (SELECT coalesce(sum(size_octets), 0) FROM mailbox WHERE tenant_id = t.tenant_id)
                   - (SELECT coalesce(sum(size_octets), 0) FROM quota_hold WHERE tenant_id = t.tenant_id AND expires_at > now()) END)::bigint,
           CASE WHEN a.quota_messages IS NOT NULL THEN a.quota_messages
               - (SELECT coalesce(sum(message_count), 0) FROM mailbox WHERE account_id = a.account_id)
               - (SELECT coalesce(sum(message_count), 0) FROM quota_hold WHERE account_id = a.account_id AND expires_at > now()) END::bigint
      FROM account AS a JOIN tenant AS t USING (tenant_id) WHERE a.account_id = p_account
$$;

-- Fail with PW452 when there is no room for so much more. Until the transaction ends nobody else gets room under the same limit;
-- each statement of a plpgsql function has a snapshot of its own, so what the lock waited for is counted.
-- Taken before any mailbox's row lock. Gives 1 where there is a limit, else 0.
CREATE FUNCTION require_room(p_account bigint, p_octets bigint, p_messages bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_scope text;
BEGIN
    SELECT CASE WHEN t.quota_octets IS NOT NULL THEN 'quota of tenant ' || t.tenant_id
                WHEN a.quota_octets IS NOT NULL OR a.quota_messages IS NOT NULL THEN 'quota of account ' || a.account_id END
      INTO v_scope FROM account AS a JOIN tenant AS t USING (tenant_id) WHERE a.account_id = p_account;
    IF v_scope IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(v_scope, 0));
    IF EXISTS (SELECT FROM room_left(p_account) AS room WHERE room.octets < p_octets OR room.messages < p_messages) THEN
        RAISE EXCEPTION 'account % has no room', p_account USING ERRCODE = 'PW452';
    END IF;
    RETURN 1;
END $$;

-- Promise room for what will be stored by another transaction. NULL where there is no limit.
CREATE FUNCTION hold_room(p_account bigint, p_octets bigint, p_messages bigint, p_seconds double precision) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_hold bigint;
BEGIN
    IF require_room(p_account, p_octets, p_messages) = 1 THEN
        DELETE FROM quota_hold WHERE account_id = p_account AND expires_at <= now();
        INSERT INTO quota_hold (tenant_id, account_id, size_octets, message_count, expires_at)
        SELECT tenant_id, account_id, p_octets, p_messages, clock_timestamp() + make_interval(secs => p_seconds)
          FROM account WHERE account_id = p_account
        RETURNING hold_id INTO v_hold;
    END IF;
    RETURN v_hold;
END $$;

-- ---------------------------------------------------------------- annotations

CREATE TABLE annotation (
    tenant_id  bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    mailbox_id bigint REFERENCES mailbox ON DELETE CASCADE,     -- NULL: of the server
    account_id bigint REFERENCES account ON DELETE CASCADE,     -- whose private annotation it is; NULL: shared
    author_id  bigint REFERENCES account ON DELETE SET NULL,    -- who wrote it, for the limit on all that one account writes
    entry      text NOT NULL CHECK (entry = lower(entry) AND entry LIKE CASE WHEN account_id IS NULL THEN '/shared/%' ELSE '/private/%' END),
    value      bytea NOT NULL,
    place      bigint GENERATED ALWAYS AS (coalesce(mailbox_id, 0)) STORED, -- for the key: where, 0 the server
    viewer     bigint GENERATED ALWAYS AS (coalesce(account_id, 0)) STORED, -- for the key: whose, 0 everybody's
    PRIMARY KEY (tenant_id, place, viewer, entry)
);
CREATE INDEX annotation_mailbox ON annotation (mailbox_id);
CREATE INDEX annotation_account ON annotation (account_id);
CREATE INDEX annotation_author ON annotation (author_id);

-- Set annotations of one mailbox, or with p_mailbox NULL of the server; a NULL value removes. All, or with PW413 none: too many.
-- p_origin comes back in the notification, so that a session passes over what it did itself.
CREATE FUNCTION set_annotations(p_tenant bigint, p_mailbox bigint, p_author bigint, p_entries text[], p_values bytea[],
                                p_entry_limit integer, p_octet_limit bigint, p_origin text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('postwerk.origin', p_origin, true);
    PERFORM pg_advisory_xact_lock(hashtextextended('annotations by ' || p_author, 0));
    DELETE FROM annotation AS a
     USING unnest(p_entries, p_values) AS given (entry, value)
     WHERE a.tenant_id = p_tenant AND a.place = coalesce(p_mailbox, 0) AND a.entry = given.entry
       AND a.viewer = CASE WHEN given.entry LIKE '/private/%' THEN p_author ELSE 0 END AND given.value IS NULL;
    INSERT INTO annotation AS a (tenant_id, mailbox_id, account_id, author_id, entry, value)
    SELECT p_tenant, p_mailbox, CASE WHEN given.entry LIKE '/private/%' THEN p_author END, p_author, given.entry, given.value
      FROM unnest(p_entries, p_values) AS given (entry, value) WHERE given.value IS NOT NULL
        ON CONFLICT (tenant_id, place, viewer, entry)
        DO UPDATE SET value = EXCLUDED.value, author_id = EXCLUDED.author_id WHERE a.value <> EXCLUDED.value;
    IF (SELECT max(many) > p_entry_limit FROM (
            SELECT count(*) AS many FROM annotation
             WHERE tenant_id = p_tenant AND place = coalesce(p_mailbox, 0) AND viewer IN (0, p_author)
             GROUP BY viewer) AS counted)
       OR (SELECT sum(octet_length(value)) > p_octet_limit FROM annotation WHERE author_id = p_author) THEN
        RAISE EXCEPTION 'too many annotations' USING ERRCODE = 'PW413';
    END IF;
END $$;

-- ---------------------------------------------------------------- notifications

-- 'account 7 mailboxes', 'account 7 subscriptions', 'account 7 metadata 12 origin /shared/comment', 'tenant 3 metadata 0 …': in the
-- transaction that changes them. Nothing here fires for deliveries: they touch the counters of a mailbox only.

CREATE FUNCTION notify_mailboxes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('postwerk_account', 'account ' || OLD.account_id || ' mailboxes');
    ELSE
        PERFORM pg_notify('postwerk_account', 'account ' || NEW.account_id || ' mailboxes');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER mailboxes_changed AFTER INSERT OR DELETE OR UPDATE OF name, uidvalidity, special_use, is_selectable ON mailbox
    FOR EACH ROW EXECUTE FUNCTION notify_mailboxes();

CREATE FUNCTION notify_subscriptions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_account', 'account ' || coalesce(NEW.account_id, OLD.account_id) || ' subscriptions');
    RETURN NULL;
END $$;

CREATE TRIGGER subscriptions_changed AFTER INSERT OR DELETE ON subscription
    FOR EACH ROW EXECUTE FUNCTION notify_subscriptions();

-- Whoever gains or loses rights gains or loses mailboxes. Named to fire behind what makes processes forget the old rights.
CREATE FUNCTION notify_acl() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_row mailbox_acl%ROWTYPE := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    PERFORM pg_notify('postwerk_account', CASE WHEN v_row.account_id IS NULL THEN 'tenant ' || v_row.tenant_id
                                               ELSE 'account ' || v_row.account_id END || ' mailboxes');
    RETURN NULL;
END $$;

CREATE TRIGGER mailbox_acl_told AFTER INSERT OR UPDATE OR DELETE ON mailbox_acl
    FOR EACH ROW EXECUTE FUNCTION notify_acl();

CREATE FUNCTION notify_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_row annotation%ROWTYPE := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    v_whom text := 'account ' || v_row.account_id;
BEGIN
    IF v_row.account_id IS NULL AND v_row.mailbox_id IS NULL THEN
        v_whom := 'tenant ' || v_row.tenant_id;
    ELSIF v_row.mailbox_id IS NOT NULL THEN -- gone with its mailbox: told as the mailbox's end
        IF NOT EXISTS (SELECT FROM mailbox WHERE mailbox_id = v_row.mailbox_id) THEN
            RETURN NULL;
        END IF;
        IF v_row.account_id IS NULL THEN
            SELECT 'account ' || account_id INTO v_whom FROM mailbox WHERE mailbox_id = v_row.mailbox_id;
        END IF;
    END IF;
    PERFORM pg_notify('postwerk_account', concat_ws(' ', v_whom, 'metadata', coalesce(v_row.mailbox_id, 0),
                                                    coalesce(nullif(current_setting('postwerk.origin', true), ''), '-'), v_row.entry));
    RETURN NULL;
END $$;

CREATE TRIGGER metadata_changed AFTER INSERT OR UPDATE OR DELETE ON annotation
    FOR EACH ROW EXECUTE FUNCTION notify_metadata();

-- Accounts are cached by what the directory's trigger watches: the new limit belongs to it.
CREATE TRIGGER directory_limit_changed AFTER UPDATE OF quota_messages, is_administrator
    ON account FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

GRANT SELECT, INSERT, UPDATE, DELETE ON quota_hold, annotation TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;
