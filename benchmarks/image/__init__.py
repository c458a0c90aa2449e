"""A picture of a digit in, ten probabilities out: served by a plugin and by hand."""
