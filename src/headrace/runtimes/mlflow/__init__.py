"""MLflow models: natively where their flavor allows, through pyfunc otherwise."""
