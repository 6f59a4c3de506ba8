"""Backups of a running fit: files, what they hold, and how a training continues from them."""
