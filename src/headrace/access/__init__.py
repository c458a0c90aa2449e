"""Who may do what: keys in a file, tokens of an issuer, and the scope that each route needs."""
