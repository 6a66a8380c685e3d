-- What a login is proven with beside the argon2id hash, and what is kept of attacks.

ALTER TABLE account
    ADD scram_sha_256 text,                     -- the verifier in the form of RFC 5803 §2; NULL until the next login with the password
    ADD last_login_at timestamptz;              -- to the hour

-- SCRAM salts are derived from it, also those of logins that do not exist: it tells nobody apart only while it stays the same.
CREATE TABLE salt_secret (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    secret  bytea NOT NULL
);
INSERT INTO salt_secret (secret) SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

-- Random secrets of 160 bits: a plain SHA-256 is as good as any slow hash (daemons/authentication/passwords.py has the argument).
CREATE TABLE app_password (
    app_password_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       bigint NOT NULL REFERENCES tenant,
    account_id      bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    label           text NOT NULL CHECK (label <> ''),
    digest          bytea NOT NULL UNIQUE,
    scram_keys      bytea NOT NULL,             -- StoredKey and ServerKey (RFC 5802 §3), with the account's salt and iterations
    scopes          text[] NOT NULL CHECK (scopes <@ ARRAY['imap', 'pop3', 'smtp', 'sieve'] AND cardinality(scopes) > 0),
    networks        cidr[] NOT NULL DEFAULT '{}', -- empty: from anywhere
    expires_at      timestamptz,
    last_used_at    timestamptz,                -- to the minute
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, label)
);
CREATE INDEX app_password_tenant ON app_password (tenant_id);
CREATE TRIGGER directory_changed AFTER INSERT OR DELETE OR UPDATE OF digest, scram_keys, scopes, networks, expires_at
    ON app_password FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

-- The one place where addresses of clients and the logins they tried are written down. The keeper removes rows after seven days.
CREATE TABLE attack_event (
    attack_event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    happened_at     timestamptz NOT NULL,
    tenant_id       bigint REFERENCES tenant ON DELETE SET NULL, -- whose account was meant; NULL: nobody's
    service         text NOT NULL,
    mechanism       text NOT NULL,
    reason          text NOT NULL,
    peer            text NOT NULL,              -- IP address
    login           text NOT NULL,              -- as it was given
    client          text NOT NULL DEFAULT ''    -- what the client said of itself
);
CREATE INDEX attack_event_time ON attack_event (happened_at);
CREATE INDEX attack_event_tenant ON attack_event (tenant_id, happened_at);

GRANT SELECT ON salt_secret TO postwerk_daemon;
GRANT SELECT, INSERT, UPDATE, DELETE ON app_password TO postwerk_daemon;
GRANT SELECT, INSERT, DELETE ON attack_event TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;
