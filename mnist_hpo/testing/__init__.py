"""Test suites for parts that other packages add. They need pytest."""

import pytest

# A failed assertion then shows its values, as it does in a test module.
pytest.register_assert_rewrite("mnist_hpo.testing.executors", "mnist_hpo.testing.listener")
