-- What people sorted, counted: how many messages of each kind, and of each token how many of them held it. No token can be read:
-- it is a number. One corpus for everybody (neither tenant nor account), one for each tenant (no account), one for each account.
CREATE TABLE spam_corpus (
    corpus_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  bigint REFERENCES tenant ON DELETE CASCADE,
    account_id bigint REFERENCES account ON DELETE CASCADE,
    spam       bigint NOT NULL DEFAULT 0 CHECK (spam >= 0),
    ham        bigint NOT NULL DEFAULT 0 CHECK (ham >= 0),
    CHECK (account_id IS NULL OR tenant_id IS NOT NULL),
    UNIQUE NULLS NOT DISTINCT (tenant_id, account_id)
);
CREATE INDEX spam_corpus_account ON spam_corpus (account_id);

CREATE TABLE spam_token (
    corpus_id bigint NOT NULL REFERENCES spam_corpus ON DELETE CASCADE,
    token     bigint NOT NULL,
    spam      integer NOT NULL,
    ham       integer NOT NULL,
    PRIMARY KEY (corpus_id, token)
) WITH (fillfactor = 80);

-- Who taught what: the same message teaches once, and what it taught can be taken back, from all levels that it reached.
CREATE TABLE spam_learned (
    corpus_id  bigint NOT NULL REFERENCES spam_corpus ON DELETE CASCADE, -- of who taught it
    digest     bytea NOT NULL,
    is_spam    boolean NOT NULL,
    reach      bigint[] NOT NULL,               -- the corpora it was counted in
    version    integer NOT NULL,                -- of the tokeniser
    learned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (corpus_id, digest)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON spam_corpus, spam_token, spam_learned TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;
