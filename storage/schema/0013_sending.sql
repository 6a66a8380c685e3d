-- Who may send in whose name, how much, and who may not for now.

-- ---------------------------------------------------------------- in whose name

-- An account sends as its own addresses without a row. The foreign keys keep tenants apart, whatever a program does.
CREATE TABLE send_as (
    owner_id   bigint NOT NULL,                 -- whose addresses: a team, or a person
    tenant_id  bigint NOT NULL,
    account_id bigint,                          -- who may use them; NULL: "anyone", which is everybody of the tenant
    UNIQUE NULLS NOT DISTINCT (owner_id, account_id),
    FOREIGN KEY (owner_id, tenant_id) REFERENCES account (account_id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, tenant_id) REFERENCES account (account_id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX send_as_account ON send_as (account_id);
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON send_as FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

-- ---------------------------------------------------------------- caps

-- Where a tenant, a domain of it or an account of it differs from the configuration. NULL: as configured; 0: no cap.
CREATE TABLE sending_cap (
    tenant_id        bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    domain_id        bigint REFERENCES domain ON DELETE CASCADE,
    account_id       bigint REFERENCES account ON DELETE CASCADE,
    messages_hour    integer CHECK (messages_hour >= 0),
    recipients_hour  integer CHECK (recipients_hour >= 0),
    messages_day     integer CHECK (messages_day >= 0),
    recipients_day   integer CHECK (recipients_day >= 0),
    burst_recipients integer CHECK (burst_recipients >= 0),
    UNIQUE NULLS NOT DISTINCT (tenant_id, domain_id, account_id),
    CHECK (domain_id IS NULL OR account_id IS NULL)
);
CREATE INDEX sending_cap_domain ON sending_cap (domain_id);
CREATE INDEX sending_cap_account ON sending_cap (account_id);

-- What was sent lately. The first element of an array is of the running five minutes (or hour), so that the hour's counts cover
-- between 60 and 65 minutes and the day's between 24 and 25 hours: no hour, wherever it begins, has more than the cap.
CREATE TABLE sending_count (
    scope           text NOT NULL CHECK (scope IN ('account', 'domain', 'tenant')),
    scope_id        bigint NOT NULL,
    hour_slot       bigint NOT NULL,            -- the running five minutes, counted since 1970
    day_slot        bigint NOT NULL,            -- the running hour, likewise
    messages_hour   integer[] NOT NULL DEFAULT array_fill(0, ARRAY[13]),
    recipients_hour integer[] NOT NULL DEFAULT array_fill(0, ARRAY[13]),
    messages_day    integer[] NOT NULL DEFAULT array_fill(0, ARRAY[25]),
    recipients_day  integer[] NOT NULL DEFAULT array_fill(0, ARRAY[25]),
    peak            integer NOT NULL DEFAULT 0, -- recipients of the busiest hour of the running day (of UTC)
    habit           real NOT NULL DEFAULT 0,    -- the same of earlier days; it fades by 3 % a day
    leave_until     timestamptz,                -- until then no burst is seen: somebody has looked at it
    PRIMARY KEY (scope, scope_id)
) WITH (fillfactor = 50);

-- ---------------------------------------------------------------- suspended accounts

CREATE TABLE sending_suspension (
    account_id    bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    tenant_id     bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    reason        text NOT NULL,
    suspended_by  text NOT NULL,                -- 'burst', or who did it
    is_holding    boolean NOT NULL,             -- what it sends is taken and held; false: it is refused
    held_messages integer NOT NULL DEFAULT 0,   -- taken since then
    suspended_at  timestamptz NOT NULL DEFAULT now(),
    telling_until timestamptz,                  -- somebody is about to tell; when he has died, somebody else may from then on
    told_at       timestamptz                   -- when tenant and operator were told
);
CREATE INDEX sending_suspension_tenant ON sending_suspension (tenant_id);
CREATE INDEX sending_suspension_untold ON sending_suspension (account_id) WHERE told_at IS NULL;

CREATE FUNCTION notify_sending() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_sending', '');
    RETURN NULL;
END $$;
CREATE TRIGGER sending_changed AFTER INSERT OR DELETE OR UPDATE OF is_holding ON sending_suspension
    FOR EACH STATEMENT EXECUTE FUNCTION notify_sending();
CREATE TRIGGER sending_changed AFTER INSERT OR DELETE OR UPDATE ON sending_cap
    FOR EACH STATEMENT EXECUTE FUNCTION notify_sending();

-- ---------------------------------------------------------------- counting

-- The counts as they stand p_by slots later.
CREATE FUNCTION later_counts(p_counts integer[], p_by bigint) RETURNS integer[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_by <= 0 THEN p_counts
                WHEN p_by >= cardinality(p_counts) THEN array_fill(0, ARRAY[cardinality(p_counts)])
                ELSE array_fill(0, ARRAY[p_by::integer]) || p_counts[1:cardinality(p_counts) - p_by::integer] END
$$;

-- A loop: an aggregate would set up an executor for each call.
CREATE FUNCTION total_count(p_counts integer[]) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_total bigint := 0;
    v_count integer;
BEGIN
    FOREACH v_count IN ARRAY p_counts LOOP
        v_total := v_total + v_count;
    END LOOP;
    RETURN v_total;
END $$;

-- The counts with so much more (less, where negative) in the slot that was the running one p_ago slots before.
CREATE FUNCTION changed_counts(p_counts integer[], p_ago bigint, p_more integer) RETURNS integer[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_ago BETWEEN 0 AND cardinality(p_counts) - 1
                THEN p_counts[1:p_ago::integer] || greatest(0, p_counts[p_ago::integer + 1] + p_more)
                     || p_counts[p_ago::integer + 2:cardinality(p_counts)]
                ELSE p_counts END
$$;

-- The row of one account, domain or tenant, locked, as it stands now.
CREATE FUNCTION current_sending(p_scope text, p_id bigint, p_now bigint) RETURNS sending_count LANGUAGE plpgsql AS $$
DECLARE
    v_row sending_count;
    v_days bigint;
BEGIN
    SELECT * INTO v_row FROM sending_count WHERE scope = p_scope AND scope_id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO sending_count (scope, scope_id, hour_slot, day_slot) VALUES (p_scope, p_id, p_now / 300, p_now / 3600)
            ON CONFLICT DO NOTHING;
        SELECT * INTO v_row FROM sending_count WHERE scope = p_scope AND scope_id = p_id FOR UPDATE;
    END IF;
    IF p_now / 300 > v_row.hour_slot THEN
        v_row.messages_hour := later_counts(v_row.messages_hour, p_now / 300 - v_row.hour_slot);
        v_row.recipients_hour := later_counts(v_row.recipients_hour, p_now / 300 - v_row.hour_slot);
        v_row.hour_slot := p_now / 300;
    END IF;
    IF p_now / 3600 > v_row.day_slot THEN
        v_days := p_now / 86400 - v_row.day_slot / 24;
        IF v_days > 0 THEN
            v_row.habit := greatest(v_row.habit, v_row.peak) * power(0.97, least(v_days, 1000));
            v_row.peak := 0;
        END IF;
        v_row.messages_day := later_counts(v_row.messages_day, p_now / 3600 - v_row.day_slot);
        v_row.recipients_day := later_counts(v_row.recipients_day, p_now / 3600 - v_row.day_slot);
        v_row.day_slot := p_now / 3600;
    END IF;
    RETURN v_row;
END $$;

-- Reserve room for a message and, where there is enough, for so many like it: the caller need not ask again for each.
-- p_caps: messages and recipients an hour, messages and recipients a day, of account, domain and tenant; 0: none.
-- verdict: 'go'; 'cap', with its name and number; 'held' and 'refused', of a suspended account; 'full', one of which too much
-- is held; 'burst', which has suspended the account just now. What is reserved is to be used within `seconds`; `counted` are
-- account, domain and tenant, where there is anything to count for.
CREATE FUNCTION reserve_sending(
    p_account bigint, p_tenant bigint, p_domain text, p_recipients integer, p_times integer, p_caps integer[],
    p_burst integer, p_factor double precision, p_held integer)
RETURNS TABLE (verdict text, messages integer, recipients integer, seconds double precision, hour_slot bigint, day_slot bigint,
               counted bigint[], scope text, unit text, cap integer, reason text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[] := ARRAY[p_account, (SELECT domain_id FROM domain WHERE name = p_domain AND tenant_id = p_tenant), p_tenant];
    v_scopes constant text[] := ARRAY['account', 'domain', 'tenant'];
    v_units constant text[] := ARRAY['messages an hour', 'recipients an hour', 'messages a day', 'recipients a day'];
    v_now constant bigint := floor(extract(epoch FROM clock_timestamp()));
    v_own sending_cap;
    v_row sending_count;
    v_rows sending_count[] := ARRAY[NULL, NULL, NULL]::sending_count[];
    v_caps integer[];
    v_left bigint;
    v_need integer;
    v_times bigint := p_times;
    v_burst integer := p_burst;
    v_threshold bigint;
    v_suspension sending_suspension;
    v_is_held boolean := false;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true); -- a crash of the server costs the counts of its last second
    SELECT * INTO v_suspension FROM sending_suspension AS s WHERE s.account_id = p_account;
    IF FOUND THEN
        IF NOT v_suspension.is_holding OR v_suspension.held_messages >= p_held THEN
            RETURN QUERY SELECT CASE WHEN v_suspension.is_holding THEN 'full' ELSE 'refused' END, 0, 0, 0::float8, 0::bigint,
                                0::bigint, v_ids, NULL::text, NULL::text, NULL::integer, v_suspension.reason;
            RETURN;
        END IF;
        v_is_held := true;
    END IF;
    verdict := 'go';
    hour_slot := v_now / 300;
    day_slot := v_now / 3600;
    FOR v_level IN 1..3 LOOP
        CONTINUE WHEN v_ids[v_level] IS NULL;
        IF v_level = 1 THEN
            SELECT * INTO v_own FROM sending_cap AS c WHERE c.account_id = p_account;
        ELSIF v_level = 2 THEN
            SELECT * INTO v_own FROM sending_cap AS c WHERE c.domain_id = v_ids[2];
        ELSE
            SELECT * INTO v_own FROM sending_cap AS c WHERE c.tenant_id = p_tenant AND c.domain_id IS NULL AND c.account_id IS NULL;
        END IF;
        v_caps := ARRAY[coalesce(v_own.messages_hour, p_caps[v_level * 4 - 3]),
                        coalesce(v_own.recipients_hour, p_caps[v_level * 4 - 2]),
                        coalesce(v_own.messages_day, p_caps[v_level * 4 - 1]), coalesce(v_own.recipients_day, p_caps[v_level * 4])];
        IF v_level > 1 AND v_caps = ARRAY[0, 0, 0, 0] THEN
            v_ids[v_level] := NULL;             -- nothing to count for
            CONTINUE;
        END IF;
        v_row := current_sending(v_scopes[v_level], v_ids[v_level], v_now);
        v_rows[v_level] := v_row;
        IF v_level = 1 THEN
            v_burst := CASE WHEN v_row.leave_until > now() THEN 0 ELSE coalesce(v_own.burst_recipients, p_burst) END;
            v_threshold := greatest(v_burst, floor(v_row.habit * p_factor));
            v_left := v_threshold - total_count(v_row.recipients_hour);
            IF v_burst > 0 AND NOT v_is_held THEN
                IF v_left < p_recipients THEN
                    verdict := 'burst';
                    reason := format('%s recipients within an hour; its busiest hour so far had %s',
                                     v_threshold - v_left + p_recipients, round(v_row.habit));
                END IF;
                v_times := least(v_times, v_left / 8 / p_recipients);
            END IF;
        END IF;
        FOR v_unit IN 1..4 LOOP
            CONTINUE WHEN v_caps[v_unit] = 0;
            v_left := v_caps[v_unit] - total_count(CASE v_unit WHEN 1 THEN v_row.messages_hour WHEN 2 THEN v_row.recipients_hour
                                                               WHEN 3 THEN v_row.messages_day ELSE v_row.recipients_day END);
            v_need := CASE WHEN v_unit IN (1, 3) THEN 1 ELSE p_recipients END;
            IF v_left < v_need THEN
                RETURN QUERY SELECT 'cap'::text, 0, 0, 0::float8, 0::bigint, 0::bigint, v_ids, v_scopes[v_level],
                                    v_units[v_unit], v_caps[v_unit], NULL::text;
                RETURN;
            END IF;
            v_times := least(v_times, v_left / 8 / v_need);
        END LOOP;
    END LOOP;
    IF verdict = 'burst' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
        INSERT INTO sending_suspension (account_id, tenant_id, reason, suspended_by, is_holding)
        VALUES (p_account, p_tenant, reason, 'burst', true) ON CONFLICT DO NOTHING;
    ELSIF v_is_held THEN
        verdict := 'held';
        reason := v_suspension.reason;
    END IF;
    IF verdict <> 'go' THEN
        UPDATE sending_suspension AS s SET held_messages = s.held_messages + 1 WHERE s.account_id = p_account;
        v_times := 1;                           -- held mail asks each time: it is seldom, and its number is limited
    END IF;
    messages := greatest(v_times, 1);
    recipients := greatest(v_times, 1) * p_recipients;
    seconds := least(30, greatest(0, (hour_slot + 1) * 300 - extract(epoch FROM clock_timestamp())));
    counted := v_ids;
    FOR v_level IN 1..3 LOOP
        CONTINUE WHEN v_ids[v_level] IS NULL;
        v_row := v_rows[v_level];
        IF verdict = 'go' THEN                  -- only what goes out makes a habit: a burst does not excuse the next one
            v_row.peak := greatest(v_row.peak, total_count(v_row.recipients_hour) + recipients);
        END IF;
        UPDATE sending_count AS c
           SET hour_slot = v_row.hour_slot, day_slot = v_row.day_slot, peak = v_row.peak, habit = v_row.habit,
               messages_hour = changed_counts(v_row.messages_hour, v_row.hour_slot - v_now / 300, messages),
               recipients_hour = changed_counts(v_row.recipients_hour, v_row.hour_slot - v_now / 300, recipients),
               messages_day = changed_counts(v_row.messages_day, v_row.day_slot - v_now / 3600, messages),
               recipients_day = changed_counts(v_row.recipients_day, v_row.day_slot - v_now / 3600, recipients)
         WHERE c.scope = v_scopes[v_level] AND c.scope_id = v_ids[v_level];
    END LOOP;
    RETURN NEXT;
END $$;

-- What was reserved and not used: p_ids are those it was counted for. In the order of reserve_sending: no deadlock.
CREATE FUNCTION return_sending(p_ids bigint[], p_hour bigint, p_day bigint, p_messages integer, p_recipients integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_scopes constant text[] := ARRAY['account', 'domain', 'tenant'];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR v_level IN 1..3 LOOP
        UPDATE sending_count AS c
           SET messages_hour = changed_counts(c.messages_hour, c.hour_slot - p_hour, -p_messages),
               recipients_hour = changed_counts(c.recipients_hour, c.hour_slot - p_hour, -p_recipients),
               messages_day = changed_counts(c.messages_day, c.day_slot - p_day, -p_messages),
               recipients_day = changed_counts(c.recipients_day, c.day_slot - p_day, -p_recipients)
         WHERE c.scope = v_scopes[v_level] AND c.scope_id = p_ids[v_level];
    END LOOP;
END $$;

GRANT SELECT ON send_as, sending_cap TO postwerk_daemon;
GRANT SELECT, INSERT, UPDATE, DELETE ON sending_count, sending_suspension TO postwerk_daemon;
