-- Mail that an account sends on, of which no other copy is kept, and whose sender must not hear of failures: the account gets it back.

CREATE TABLE outbound_return (
    outbound_id bigint PRIMARY KEY REFERENCES outbound_message ON DELETE CASCADE,
    account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    returned_at timestamptz                       -- NULL: it has not come back
);
CREATE INDEX outbound_return_account ON outbound_return (account_id);

GRANT SELECT, INSERT, UPDATE ON outbound_return TO postwerk_daemon;
