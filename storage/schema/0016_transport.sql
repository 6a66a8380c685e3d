-- Transport security of destinations.
SELECT 1; -- replace this line
