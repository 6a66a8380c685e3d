-- What is kept for scripts that run later than what they are about.

-- ---------------------------------------------------------------- events

-- What happened over IMAP in mailboxes that name a script (RFC 6785), whose script has not run yet. Written in the transaction of
-- the event, removed in the one that stores what the script did.
CREATE SEQUENCE mailbox_event_command;

CREATE TABLE mailbox_event (
    command_id  bigint NOT NULL,                         -- what one command did
    uid         bigint NOT NULL,
    account_id  bigint NOT NULL,                         -- the mailbox's owner
    mailbox_id  bigint NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    cause       text NOT NULL CHECK (cause IN ('APPEND', 'COPY', 'FLAG')),
    script      text NOT NULL CHECK (script <> ''),      -- its name, as it was then
    login       text NOT NULL,                           -- who did it
    changed     text NOT NULL,                           -- the flags that changed, for FLAG
    happened_at timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,              -- the fence: how often somebody else took it up
    due_at      timestamptz NOT NULL,                    -- until then it is whose who has it
    PRIMARY KEY (command_id, uid)
);
CREATE INDEX mailbox_event_account ON mailbox_event (account_id);
CREATE INDEX mailbox_event_mailbox ON mailbox_event (mailbox_id);
CREATE INDEX mailbox_event_due_at ON mailbox_event (due_at);
CREATE INDEX mailbox_event_happened_at ON mailbox_event (happened_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON mailbox_event TO postwerk_daemon;
GRANT USAGE, SELECT ON SEQUENCE mailbox_event_command TO postwerk_daemon;

-- ---------------------------------------------------------------- quarantine

-- Of the envelope, what the scripts see of a message that is released: RFC 5228 §5.4 "auth", RFC 3461 §4.2.
ALTER TABLE quarantine
    ADD sender_login text NOT NULL DEFAULT '',
    ADD orcpt text;
