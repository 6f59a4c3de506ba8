"""Which channels live or die together: channel ids, rules, and the channel map of a model."""
