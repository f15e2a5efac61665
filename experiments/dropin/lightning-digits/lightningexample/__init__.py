"""A network on digits with PyTorch Lightning."""
