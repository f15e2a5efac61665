"""Logistic regression on digits with scikit-learn."""
