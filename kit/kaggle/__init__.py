"""Kaggle behind one seam: `client` makes the calls, `credentials` and `failures` say who asks and what went wrong.

`download` brings files. `kernel_spec` is a recipe, `kernel_files` and `kernels` write what
runs there, `pushes` sends it exactly once (`exactly_once`), `watch` sees it to its end and fetches its output,
`kernel_log` writes and reads its log. `versions` and `submissions_api` are single calls.
"""
