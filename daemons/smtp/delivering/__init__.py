"""Delivery to accounts of this host: what filters and rules want for each of them, as what is stored in one transaction."""
