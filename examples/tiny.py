"""The average gradient in sixty lines: a scalar engine, and the ledger of y = w₂ w₁².

Run `python examples/tiny.py`. docs/tiny.md explains it, and docs/how_it_works.md builds the same
for arrays.
"""

import math


class Value:
    """A number before and after an update, and the inputs that it was computed from."""

    def __init__(self, start, end, inputs=(), slopes=(), chords=()):
        self.start, self.end, self.inputs = start, end, inputs
        self.slopes = slopes  # J, the derivative of each input at the start
        self.chords = chords  # J̄, its average on the way from start to end
        self.grad = 0.0  # λ, what the root changes per change of this number

    def __add__(self, other):
        sums = self.start + other.start, self.end + other.end
        return Value(*sums, (self, other), (1.0, 1.0), (1.0, 1.0))

    def __mul__(self, other):
        slopes = other.start, self.start
        middles = (other.start + other.end) / 2, (self.start + self.end) / 2
        products = self.start * other.start, self.end * other.end
        return Value(*products, (self, other), slopes, middles)

    def tanh(self):
        a, b = math.tanh(self.start), math.tanh(self.end)
        gap = self.end - self.start
        chord = (1 - a * b) * (math.tanh(gap) / gap if gap else 1)  # (b - a) / gap, stably
        return Value(a, b, (self,), (1 - a * a,), (chord,))

    def relu(self):
        a, b = max(self.start, 0.0), max(self.end, 0.0)
        gap, slope = self.end - self.start, float(self.start > 0)
        return Value(a, b, (self,), (slope,), ((b - a) / gap if gap else slope,))


def sweep(root):
    """Set λ of every number behind `root`, and return them, each after its inputs."""
    order = {}

    def visit(value):
        for each in value.inputs:
            if each not in order:
                visit(each)
        order[value] = None

    visit(root)
    for value in order:
        value.grad = 0.0
    root.grad = 1.0
    for value in reversed(order):
        for each, chord in zip(value.inputs, value.chords):
            each.grad += chord * value.grad
    return list(order)


def ledger(names, root):
    """Return a table with a row for each number, leaves first; `names` names some of them."""
    lines = ["node", "x⁰", "x¹", "δ", "J", "J̄", "λ", "λδ"]
    for value in sorted(sweep(root), key=lambda value: len(value.inputs) > 0):
        step = value.end - value.start
        numbers = value.start, value.end, step, value.slopes, value.chords, value.grad
        lines += [names.get(value, "·"), *map(text, (*numbers, value.grad * step))]
    # The macron of J̄ is a character of its own that takes no room.
    cells = [cell + " " * (9 - len(cell.replace("\u0304", ""))) for cell in lines]
    return "\n".join(" ".join(cells[i : i + 8]).rstrip() for i in range(0, len(cells), 8))


def text(number):
    return ", ".join(map(text, number)) if isinstance(number, tuple) else f"{number:g}"


if __name__ == "__main__":
    w1, w2 = Value(1.0, 2.0), Value(1.0, 3.0)
    h = w1 * w1
    y = h * w2
    print(ledger({w1: "w₁", w2: "w₂", h: "h = w₁²", y: "y = hw₂"}, y))
