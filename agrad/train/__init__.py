"""The training loop, single training steps, and `fit`, which does all that goes with them."""

from agrad.train.evaluation import Evaluation as Evaluation
from agrad.train.evaluation import evaluate as evaluate
from agrad.train.evaluation import predict as predict
from agrad.train.fitting import fit as fit
from agrad.train.history import History as History
from agrad.train.loop import DECAY as DECAY
from agrad.train.loop import Step as Step
from agrad.train.loop import train as train
from agrad.train.step import CapturedStep as CapturedStep
from agrad.train.step import capture_step as capture_step
from agrad.train.step import train_step as train_step
from agrad.train.training import Callback as Callback
from agrad.train.training import Training as Training
