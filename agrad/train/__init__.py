"""The training loop, and single training steps."""

from agrad.train.loop import DECAY as DECAY
from agrad.train.loop import Evaluation as Evaluation
from agrad.train.loop import Step as Step
from agrad.train.loop import evaluate as evaluate
from agrad.train.loop import train as train
from agrad.train.step import CapturedStep as CapturedStep
from agrad.train.step import capture_step as capture_step
from agrad.train.step import train_step as train_step
