"""Archives that others made: read without trusting them, and written so that they are equal."""
