"""MLflow's scoring protocol and signatures as pure functions."""
