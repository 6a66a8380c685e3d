"""Load generators and the comparison with Postfix and Dovecot. Start it with `python -m bench` or `make bench`."""
