"""One file a command. What needs Keras is imported when the command runs, not before."""
