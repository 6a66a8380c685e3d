-- Transport security of destinations: what the whole host has learned about other hosts, and where tenants' mail comes from.

-- Policies of other domains (RFC 8461). Public knowledge, no tenant's: kept so that nobody who blocks a name or a web server can undo them.
CREATE TABLE sts_policy (
    domain     text PRIMARY KEY,                -- A-labels, lower case
    policy_id  text NOT NULL,                   -- of the TXT record that it was fetched for
    mode       text NOT NULL CHECK (mode IN ('enforce', 'testing', 'none')),
    mx         text[] NOT NULL,
    max_age    integer NOT NULL CHECK (max_age >= 0), -- seconds
    fetched_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sts_policy_fetched ON sts_policy (fetched_at);

CREATE TABLE tenant_source (
    tenant_id bigint PRIMARY KEY REFERENCES tenant ON DELETE CASCADE,
    ipv4      inet CHECK (family(ipv4) = 4),    -- connections come from there; NULL: as the system has it
    ipv6      inet CHECK (family(ipv6) = 6),
    hostname  text CHECK (hostname <> ''),      -- for EHLO; NULL: the host's own
    CHECK (num_nonnulls(ipv4, ipv6, hostname) > 0)
);

-- Sessions with domains that ask for reports (RFC 8460), counted: no tenant, sender or recipient is in it.
CREATE TABLE tls_session (
    day      date NOT NULL,                     -- UTC
    domain   text NOT NULL,
    digest   bytea NOT NULL,                    -- SHA-256 of the kind
    kind     jsonb NOT NULL,                    -- what these sessions have in common: policy, failure, hosts
    sessions bigint NOT NULL CHECK (sessions > 0),
    PRIMARY KEY (day, domain, digest)
);

CREATE TABLE tls_report_sent (
    domain        text NOT NULL,
    day           date NOT NULL,
    claimed_until timestamptz NOT NULL,         -- a process that dies over it leaves it to another one
    sent_at       timestamptz,
    outcome       text NOT NULL DEFAULT '',     -- for people
    PRIMARY KEY (day, domain)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON sts_policy, tls_session, tls_report_sent TO postwerk_daemon;
GRANT SELECT ON tenant_source TO postwerk_daemon;
