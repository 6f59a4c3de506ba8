"""What the outputs of a model are held against: which classifier it is, labels, metrics."""
