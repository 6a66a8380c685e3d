"""The suite as a user has it: started by its command line, spoken to over its sockets, never imported."""
