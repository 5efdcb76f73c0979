"""Building blocks of Flax modules beside Flax's own layers: mixed-precision products, convolution, hashed dropout."""
