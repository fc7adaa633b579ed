"""One run from its plan to its `images.zip`, under one clock: `run.py` tells it on a page."""

from kit.run.context import RunConfig
from kit.run.replay import replay
from kit.run.run import finish_run, train, worker_loop
from kit.training.run_record import Callback

__all__ = ["Callback", "RunConfig", "finish_run", "replay", "train", "worker_loop"]
