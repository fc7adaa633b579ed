"""The tests of this room talk to a Kaggle of the tests' own."""

from kaggle_user import clock, home, patience, server, waits

__all__ = ["clock", "home", "patience", "server", "waits"]
