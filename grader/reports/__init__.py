"""Reports: pure functions of a scorecard."""
