"""What codecs are made of: rounding noise, bit packing, entropy coding, index sets."""
