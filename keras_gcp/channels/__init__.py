"""Which channels live or die together: labels, rules, and the channel map of a model."""
