"""The coordinator: agents of one trial attempt meet here, generation after generation."""
