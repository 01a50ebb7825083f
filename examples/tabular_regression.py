"""Learn a table of numbers, with early stopping: the progression of diabetes in 442 patients.

python examples/tabular_regression.py

The loss on the examples held out decides which epoch's weights are kept, and when to stop.
"""

import numpy as np
from sklearn.datasets import load_diabetes

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import random_split
from agrad.train import evaluate, fit

ag.seed(0)
x, y = load_diabetes(return_X_y=True)
x, y = x.astype(np.float32), y.astype(np.float32)[:, None]
train, validation, test = random_split((x, y), [0.6, 0.2, 0.2])
scales = [(array.mean(axis=0), array.std(axis=0)) for array in train]
train, validation, test = (
    tuple((array - mean) / deviation for array, (mean, deviation) in zip(part, scales))
    for part in (train, validation, test)
)

model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
print(model)
optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=3e-3))
history = fit(
    model,
    optimizer,
    train,
    validation=validation,
    loss=F.mse_loss,
    metrics=["r2"],
    epochs=200,
    patience=15,
)
found = evaluate(model, *test, loss_function=F.mse_loss, metrics=["r2"])
print(f"stopped after {len(history['loss'])} epochs, the best was epoch {history.best_epoch}")
print(f"test R² {found.metrics['r2']:.3f}")
