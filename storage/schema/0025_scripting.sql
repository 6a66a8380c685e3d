-- What running scripts need: what they remember, scripts for many accounts, lists of addresses, and word of what changed.

CREATE TABLE memory (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    kind       text NOT NULL,
    digest     bytea NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the key
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, kind, digest)
);
CREATE INDEX memory_expires_at ON memory (expires_at);

-- Scripts that run for many accounts, in the order of their names, or that the scripts of many may include.
CREATE TABLE sieve_global (
    tenant_id  bigint REFERENCES tenant ON DELETE CASCADE, -- NULL: of the host, for all tenants
    name       text NOT NULL CHECK (name <> ''),
    place      text NOT NULL CHECK (place IN ('before', 'after', 'library')), -- the account's own; library: only when included
    octets     bytea NOT NULL,
    digest     bytea NOT NULL GENERATED ALWAYS AS (sha256(octets)) STORED,
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, name)
);

-- Lists of addresses that scripts name, RFC 6134: 'default' is the address book.
CREATE TABLE address_list (
    list_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id bigint REFERENCES account ON DELETE CASCADE, -- NULL: of the tenant, for all its accounts
    name       text NOT NULL CHECK (name <> ''),
    UNIQUE NULLS NOT DISTINCT (tenant_id, account_id, name)
);
CREATE INDEX address_list_account ON address_list (account_id);

CREATE TABLE address_list_entry (
    list_id  bigint NOT NULL REFERENCES address_list ON DELETE CASCADE,
    value    text NOT NULL CHECK (value <> ''), -- in lower case: an address, '@domain' for all of it, or other text
    label    text NOT NULL DEFAULT '',
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (list_id, value)
);

-- Processes keep which scripts concern an account: they are told its number, or 0 when it may be any.
CREATE FUNCTION notify_scripts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_scripts', coalesce(NEW.account_id, OLD.account_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER scripts_changed AFTER INSERT OR UPDATE OR DELETE ON sieve_script
    FOR EACH ROW EXECUTE FUNCTION notify_scripts();

CREATE FUNCTION notify_all_scripts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_scripts', '0');
    RETURN NULL;
END $$;
CREATE TRIGGER scripts_changed AFTER INSERT OR UPDATE OR DELETE ON sieve_global
    FOR EACH STATEMENT EXECUTE FUNCTION notify_all_scripts();
-- RFC 6785 §2.3.1: which script runs after what happens in a mailbox over IMAP.
CREATE TRIGGER event_script_changed AFTER INSERT OR UPDATE ON annotation
    FOR EACH ROW WHEN (NEW.entry = '/shared/imapsieve/script') EXECUTE FUNCTION notify_all_scripts();
CREATE TRIGGER event_script_removed AFTER DELETE ON annotation
    FOR EACH ROW WHEN (OLD.entry = '/shared/imapsieve/script') EXECUTE FUNCTION notify_all_scripts();
CREATE INDEX annotation_event_script ON annotation (tenant_id) WHERE entry = '/shared/imapsieve/script';

GRANT SELECT, INSERT, UPDATE, DELETE ON memory, address_list, address_list_entry TO postwerk_daemon;
GRANT SELECT ON sieve_global TO postwerk_daemon;
