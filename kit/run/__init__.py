"""One run from its plan to its `images.zip`, under one clock: `run.py` tells it on a page."""

from kit.run.config import Callback, RunConfig
from kit.run.recovery import economise
from kit.run.replay import replay
from kit.run.run import conclude, follow, train

__all__ = ["Callback", "RunConfig", "conclude", "economise", "follow", "replay", "train"]
