"""TLS for every listener: certificates that are read again when they change, and a transport."""
