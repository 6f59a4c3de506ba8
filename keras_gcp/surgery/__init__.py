"""Surgery: applying a plan to the architecture, and proving that it was done right."""
