"""Kaggle behind one seam: `credentials` finds out who asks, `client` makes the calls, `download` fetches the data."""
