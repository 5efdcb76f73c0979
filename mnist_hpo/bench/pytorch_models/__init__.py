"""The networks of `mnist_hpo.models` in PyTorch, as a careful user would write them.

Each file's `build` takes `torch`, a value for each hyperparameter of the training, and the rate of dropout. PyTorch
comes with the extra `bench`, so the type checker does not find it, and it is an argument.
"""
