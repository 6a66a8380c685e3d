"""A test internet on the loopback: name server, mail servers with faults, a web server, certificate authorities."""
