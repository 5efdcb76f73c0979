"""Curves in a line of text."""

from mnist_hpo.cli.sparkline import sparkline


def test_the_highest_and_the_lowest_value_are_the_ends_of_the_scale() -> None:
    assert sparkline([8, 4, 2, 1], 10) == "█▆▃▁"


def test_more_values_than_characters_end_with_the_last_value() -> None:
    drawn = sparkline([float(loss) for loss in range(100, 0, -1)], 10)
    assert len(drawn) == 10
    assert drawn[-1] == "▁"
    assert list(drawn) == sorted(drawn, reverse=True)


def test_nothing_one_value_and_equal_values() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([0.5], 10) == "▁"
    assert sparkline([0.5, 0.5], 10) == "▁▁"


def test_a_scale_shared_with_other_curves() -> None:
    assert sparkline([4, 2], 10, low=1, high=16) == "▅▃"
    assert sparkline([100, 0.0], 10, low=1, high=16) == "█▁"
