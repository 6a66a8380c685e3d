-- What people set without writing Sieve, and the script that is made of it. Whoever puts a document here has checked and compiled it.

CREATE TABLE simple_settings (
    account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    document   jsonb NOT NULL,
    sieve      bytea,                           -- NULL: the document leaves all mail where it comes in
    junk_days  integer GENERATED ALWAYS AS ((document ->> 'junk_days')::integer) STORED CHECK (junk_days > 0), -- NULL: for ever
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX simple_settings_junk ON simple_settings (account_id) WHERE junk_days IS NOT NULL;
CREATE TRIGGER scripts_changed AFTER INSERT OR UPDATE OF sieve OR DELETE ON simple_settings
    FOR EACH ROW EXECUTE FUNCTION notify_scripts();

GRANT SELECT, INSERT, UPDATE, DELETE ON simple_settings TO postwerk_daemon;
