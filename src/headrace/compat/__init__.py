"""Source written for other servers, run as it is."""
