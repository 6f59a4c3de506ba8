"""What a network costs, and what it may cost: counted, as a function of its widths, limited."""
