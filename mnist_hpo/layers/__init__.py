"""Building blocks of Flax modules besides Flax's own layers: mixed-precision products, hashed dropout, pooling."""
