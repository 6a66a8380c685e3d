-- What becomes of infected mail for a tenant's people. NULL: as configured.

ALTER TABLE tenant ADD antivirus_action text CHECK (antivirus_action IN ('reject', 'strip', 'quarantine', 'discard'));
