"""Seeds belong to names."""

import itertools

from mnist_hpo.spec.seeds import seed_of


def test_a_seed_is_the_same_for_ever() -> None:
    # Written down: another value would change every study that anybody has run.
    assert seed_of(0, "training", 7) == 639111741750478471


def test_names_that_differ_anywhere_have_their_own_seeds() -> None:
    parts = (0, 1, 11, "0", "1", "training", "sampler")
    names = [name for n in (1, 2, 3) for name in itertools.product(parts, repeat=n)]
    seeds = {seed_of(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
