"""One run from its plan to its `images.zip`, under one clock: `conductor.py` tells it on a page."""

from kit.pipeline.conductor import conclude, follow, train
from kit.pipeline.job import Job, Listener
from kit.pipeline.recovery import economise
from kit.pipeline.replaying import replay

__all__ = ["Job", "Listener", "conclude", "economise", "follow", "replay", "train"]
