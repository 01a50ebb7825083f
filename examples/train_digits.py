"""Train a deep plain network on handwritten digits; the optimizer sets the learning rate.

python examples/train_digits.py
"""

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.train import evaluate

ag.seed(0)
images, labels = ag.data.digits("train")
hidden = [layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.Tanh())]
model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))
for name, parameter in model.named_parameters():
    (nn.init.xavier_uniform_ if name.endswith("weight") else nn.init.zeros_)(parameter)
optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-4, cautious=True), lr="auto")
batches = ag.data.Batches(images, labels, batch_size=128)

for _ in range(20):
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        optimizer.step(loss)
    test = evaluate(model, *ag.data.digits("test"))
    print(
        f"epoch {batches.epoch:2}  learning rate {optimizer.lr:.1e}  loss {loss.item():.4f}  "
        f"test accuracy {test.accuracy:.1%}"
    )
