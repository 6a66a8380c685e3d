"""Sieve scripts at work: which ones concern an account, and what they may ask of the database."""
