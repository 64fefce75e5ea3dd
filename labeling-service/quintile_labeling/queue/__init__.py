"""Which task comes next, and for whom."""
