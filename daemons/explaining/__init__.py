"""What would become of a message now, and why: the filters and rules of today over a message, with nothing changed by it."""
