"""One loop that trains every recipe, and what it needs: losses, averages, a budget, checkpoints."""
