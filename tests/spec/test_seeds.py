"""Seeds are derived from names."""

import itertools

from mnist_hpo.spec.seeds import seed_of


def test_a_seed_never_changes() -> None:
    # A constant, since another value would change the results of every existing study.
    assert seed_of(0, "training", 7) == 639111741750478471


def test_different_names_have_different_seeds() -> None:
    parts = (0, 1, 11, "0", "1", "training", "sampler")
    names = [name for n in (1, 2, 3) for name in itertools.product(parts, repeat=n)]
    seeds = {seed_of(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
