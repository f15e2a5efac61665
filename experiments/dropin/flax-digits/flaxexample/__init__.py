"""A network on digits with JAX and Flax."""
