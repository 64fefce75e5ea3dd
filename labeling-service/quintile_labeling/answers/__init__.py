"""What people answer: judging, saving, undoing, and the projection of it."""
