"""What a run looks like: its film, its curves, and a page that says everything about it."""
