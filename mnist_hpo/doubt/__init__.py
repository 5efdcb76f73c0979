"""Whether an answer is doubtful: the picture may show no digit, or the model is not sure of it."""
