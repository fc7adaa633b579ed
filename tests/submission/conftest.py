"""The tests of this room have runs to pack, and a Kaggle of the tests' own to send them to."""

from kaggle_user import clock, home, policy, said, server, waits
from run_tools import make_run

__all__ = ["clock", "home", "make_run", "policy", "said", "server", "waits"]
