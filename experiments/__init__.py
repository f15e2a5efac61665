"""Experiments: data, tasks, the comparison, figures and the Flower app."""
