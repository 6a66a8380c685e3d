-- Before a message: senders that people have listed, greylisting, and what networks and senders have used of their rates.

-- ---------------------------------------------------------------- listed senders

CREATE TABLE listed_sender (
    tenant_id  bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id bigint,                          -- whose list; NULL: the tenant's, for all its accounts
    pattern    text NOT NULL CHECK (pattern <> '' AND pattern = lower(pattern)), -- address, domain, network, or with wildcards
    is_allowed boolean NOT NULL,                -- otherwise blocked
    note       text NOT NULL DEFAULT '',        -- for whoever reads the list
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, account_id, pattern),
    FOREIGN KEY (account_id, tenant_id) REFERENCES account (account_id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX listed_sender_account ON listed_sender (account_id);

CREATE FUNCTION notify_listed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_listed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER listed_changed AFTER INSERT OR UPDATE OR DELETE ON listed_sender
    FOR EACH STATEMENT EXECUTE FUNCTION notify_listed();

-- ---------------------------------------------------------------- greylisting

ALTER TABLE tenant ADD greylisting boolean;     -- NULL: as configured

-- Digests only: nobody learns from here who wrote to whom.
CREATE TABLE greylist (
    tenant_id bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    key       bytea NOT NULL,                   -- of a network (or a proven domain), or of that with sender and recipient
    first_at  timestamptz NOT NULL,             -- when it was put off; of a network: when it was first let in
    seen_at   timestamptz NOT NULL,
    passed    integer NOT NULL,                 -- of a network: how many tries it has repeated in time
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX greylist_seen ON greylist (seen_at);

-- ---------------------------------------------------------------- rates

-- A leaky bucket for each network, sender and so on. Lost with a crash of the server: then everybody begins anew.
CREATE UNLOGGED TABLE rate (
    key     bytea PRIMARY KEY,                  -- a digest of whose and of what
    used    double precision NOT NULL,          -- at seen_at; it leaks away steadily, the whole limit within the period
    granted double precision NOT NULL,          -- to whoever asked last
    seen_at timestamptz NOT NULL
);
CREATE INDEX rate_seen ON rate (seen_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON greylist, rate TO postwerk_daemon;
GRANT SELECT, INSERT, DELETE ON listed_sender TO postwerk_daemon;
