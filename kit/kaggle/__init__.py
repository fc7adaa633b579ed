"""Kaggle behind one seam: `credentials` finds out who asks, `client` makes the calls; `download` fetches the data,
`kernel` writes what runs there, `push`, `watch` and `output` see it through, `entries` are its submissions.
"""
