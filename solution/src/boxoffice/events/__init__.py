"""Events as buyers see them: the list and one event."""
