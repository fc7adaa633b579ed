"""The commands, one small function each; their work is done elsewhere."""
