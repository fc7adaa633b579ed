"""The tests of this room talk to a Kaggle of the tests' own."""

from kaggle_user import clock, home, policy, said, server, waits

__all__ = ["clock", "home", "policy", "said", "server", "waits"]
