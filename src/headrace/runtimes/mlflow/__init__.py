"""MLflow models, loaded natively where their flavor allows it, and otherwise through pyfunc."""
