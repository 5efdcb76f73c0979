"""What Flax modules are made of beside the layers of Flax itself: products by precision, dropout by hashing."""
