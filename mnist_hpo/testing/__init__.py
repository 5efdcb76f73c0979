"""Test suites for plug-ins of other packages. They need pytest."""

import pytest

# Failed assertions in these modules then show their values, as in a test module.
pytest.register_assert_rewrite("mnist_hpo.testing.executors", "mnist_hpo.testing.listener")
