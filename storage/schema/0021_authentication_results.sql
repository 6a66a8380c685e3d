-- Mail in the name of domains that ask for aggregate reports of DMARC (RFC 9990), counted: no tenant, local part or recipient is in it.

CREATE TABLE dmarc_outcome (
    day      date NOT NULL,                     -- UTC
    domain   text NOT NULL,                     -- where the policy was found
    digest   bytea NOT NULL,                    -- SHA-256 of the kind
    kind     jsonb NOT NULL,                    -- what these messages have in common: policy, source, results, what was done
    messages bigint NOT NULL CHECK (messages > 0),
    PRIMARY KEY (day, domain, digest)
);

CREATE TABLE dmarc_report_sent (
    domain        text NOT NULL,
    day           date NOT NULL,
    claimed_until timestamptz NOT NULL,         -- a process that dies over it leaves it to another one
    sent_at       timestamptz,
    outcome       text NOT NULL DEFAULT '',     -- for people
    PRIMARY KEY (day, domain)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON dmarc_outcome, dmarc_report_sent TO postwerk_daemon;
