-- The delivery record of each tenant.
SELECT 1; -- replace this line
