"""All knowledge of Flower's names and bytes that clients and strategies share."""
