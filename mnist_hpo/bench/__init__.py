"""Speed benchmarks. All claims about speed come from this package, as ratios within one run."""
