"""Which interpreter suits a model: the server's, or one built or unpacked for it."""
