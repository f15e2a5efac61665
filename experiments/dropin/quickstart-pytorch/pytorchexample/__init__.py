"""A CNN on MNIST with Flower and PyTorch."""
