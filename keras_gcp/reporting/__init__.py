"""Reports on a pruned model, from plain numbers and names: text, pictures, one HTML page."""
