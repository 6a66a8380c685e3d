-- Spam: from which score on what is done, what accounts have done with mail of a sender, what they sorted and nobody learned yet.

-- NULL: as one level higher, which is the tenant's row (no account), then the configuration. 'Infinity': never.
CREATE TABLE spam_threshold (
    tenant_id  bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id bigint REFERENCES account ON DELETE CASCADE,
    tag        double precision CHECK (tag > 0),
    junk       double precision CHECK (junk > 0),
    reject     double precision CHECK (reject > 0),
    UNIQUE NULLS NOT DISTINCT (tenant_id, account_id)
);
CREATE INDEX spam_threshold_account ON spam_threshold (account_id);

-- No address can be read: the sender is a number made of it.
CREATE TABLE spam_standing (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    sender     bigint NOT NULL,
    answered   integer NOT NULL DEFAULT 0 CHECK (answered >= 0), -- messages that the account wrote to it
    kept       integer NOT NULL DEFAULT 0 CHECK (kept >= 0),     -- of its messages, those that were read and stayed
    junked     integer NOT NULL DEFAULT 0 CHECK (junked >= 0),
    changed_on date NOT NULL DEFAULT current_date,
    PRIMARY KEY (account_id, sender)
) WITH (fillfactor = 90);
CREATE INDEX spam_standing_changed_on ON spam_standing (changed_on);

-- What people sorted, in its order. Written in the transaction that moves the message, removed in the one that learns from it.
CREATE TABLE spam_lesson (
    lesson_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    content_id bigint NOT NULL,                -- no reference: what is gone by then teaches nothing
    is_spam    boolean NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now()
);

-- Up to which content mail that people keep has been counted.
CREATE TABLE spam_progress (
    content_id bigint NOT NULL
);
INSERT INTO spam_progress VALUES (0);

GRANT SELECT, INSERT, UPDATE, DELETE ON spam_threshold, spam_standing, spam_lesson TO postwerk_daemon;
GRANT SELECT, UPDATE ON spam_progress TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;
