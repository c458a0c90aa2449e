"""Models of tables: scikit-learn, boosted trees, Spark."""
