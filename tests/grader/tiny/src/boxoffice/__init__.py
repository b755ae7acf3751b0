"""A stand-in for a submission: starts at once, keeps nothing, behaves as ``behaviour.txt`` says."""
