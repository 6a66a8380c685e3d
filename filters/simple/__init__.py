"""Simple settings: what people want done with their mail, said without Sieve and compiled to it."""
