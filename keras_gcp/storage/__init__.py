"""Files of keras_gcp's own: where they lie, one writer at a time, whole or not at all."""
