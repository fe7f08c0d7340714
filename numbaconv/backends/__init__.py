"""The backends, and the lowerings and tasks that they are made of."""
