"""Training of Flax modules: pure jitted functions of arrays (`core`), and an epoch's work on the host (`learner`)."""
