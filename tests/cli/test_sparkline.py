"""Sparklines: curves drawn in a line of text."""

from mnist_hpo.cli.sparkline import sparkline


def test_the_scale_ranges_from_the_lowest_to_the_highest_value() -> None:
    assert sparkline([8, 4, 2, 1], 10) == "█▆▃▁"


def test_a_shortened_curve_ends_with_the_last_value() -> None:
    drawn = sparkline([float(loss) for loss in range(100, 0, -1)], 10)
    assert len(drawn) == 10
    assert drawn[-1] == "▁"
    assert list(drawn) == sorted(drawn, reverse=True)


def test_no_values_one_value_and_equal_values_are_drawn() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([0.5], 10) == "▁"
    assert sparkline([0.5, 0.5], 10) == "▁▁"


def test_curves_can_share_a_scale() -> None:
    assert sparkline([4, 2], 10, low=1, high=16) == "▅▃"
    assert sparkline([100, 0.0], 10, low=1, high=16) == "█▁"
