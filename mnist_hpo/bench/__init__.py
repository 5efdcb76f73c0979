"""Speed, as ratios inside one run: the only place where it is claimed."""
