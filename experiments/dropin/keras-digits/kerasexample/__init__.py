"""A network on digits with Keras."""
