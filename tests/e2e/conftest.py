"""What tests of whole commands share with the rooms' own."""

from kaggle_user import clock, home, policy, said, server, waits
from run_tools import make_run

__all__ = ["clock", "home", "make_run", "policy", "said", "server", "waits"]
