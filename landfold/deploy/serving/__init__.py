"""A model folder behind MLflow: as a pyfunc in Python, and over HTTP."""
