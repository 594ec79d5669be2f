"""Time our calculators beside their peers, in one run, as ratios of medians."""
