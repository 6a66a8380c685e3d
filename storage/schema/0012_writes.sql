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
