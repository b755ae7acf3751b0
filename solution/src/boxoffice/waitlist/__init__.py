"""The waitlist of a sold-out event."""
