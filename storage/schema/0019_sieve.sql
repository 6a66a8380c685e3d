-- Sieve scripts of accounts. The name is in NFC; what a script says is checked by who puts it here.

CREATE TABLE sieve_script (
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    name        text NOT NULL CHECK (name <> ''),
    octets      bytea NOT NULL,
    digest      bytea NOT NULL GENERATED ALWAYS AS (sha256(octets)) STORED, -- what a compiled script is kept under
    is_active   boolean NOT NULL DEFAULT false,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, name)
);
CREATE UNIQUE INDEX sieve_script_active ON sieve_script (account_id) WHERE is_active; -- RFC 5804 §1.4: at most one

GRANT SELECT, INSERT, UPDATE, DELETE ON sieve_script TO postwerk_daemon;
