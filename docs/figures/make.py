"""Make the figures of the documentation as SVG: `python docs/figures/make.py`.

Each figure follows the reader's colour scheme: by a media query of its own where it is an image,
and by the site's style sheet, docs/_static/agrad.css, where a page contains it.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from agrad.kernels.cpu.activation import tanh

import agrad as ag
import agrad.nn.functional as F
from agrad import optim
from agrad.study.networks import dense_network

__all__ = ["FIGURES", "main"]

FOLDER = Path(__file__).parent
ACCURACY = FOLDER.parents[1] / "results" / "accuracy" / "map.json"
WIDTH, HEIGHT, MARGIN = 480, 320, 34
STYLE = """
.figure { --ink: #1b1b1b; --faint: #8a8a8a; --blue: #0068a8; --red: #c64600; --green: #00795a;
  font: 15px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .figure { --ink: #e4e4e4; --faint: #8f8f8f; --blue: #5ab4ea;
  --red: #ff8f4d; --green: #3fc79d } }
.figure path { fill: none; stroke-width: 2.5 }
.figure .dashed { stroke-dasharray: 6 5 }
.figure .thin { stroke-width: 1 }
.figure .area { stroke: none; opacity: .25 }
"""

Point = tuple[float, float]


class Canvas:
    """A drawing in its own coordinates: x to the right, y up."""

    def __init__(self, title: str, x: Point, y: Point) -> None:
        self.x, self.y = x, y
        self.parts = [f"<title>{title}</title>", f"<style>{STYLE}</style>"]

    def place(self, point: Point) -> Point:
        """Return a point in pixels."""
        (x, y), (left, right), (low, high) = point, self.x, self.y
        return (
            MARGIN + (x - left) / (right - left) * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - (y - low) / (high - low) * (HEIGHT - 2 * MARGIN),
        )

    def line(self, points: Iterable[Point], colour: str, kind: str = "") -> None:
        """Draw a line through points."""
        self.parts.append(f"<path class='{kind}' stroke='var(--{colour})' d='{self._d(points)}'/>")

    def area(self, points: Iterable[Point], colour: str) -> None:
        """Fill a polygon."""
        self.parts.append(
            f"<path class='area' style='fill: var(--{colour})' d='{self._d(points)}Z'/>"
        )

    def box(self, one: Point, other: Point, colour: str, opacity: float = 1.0) -> None:
        """Fill the rectangle between two corners."""
        (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(self.place(one), self.place(other)))
        self.parts.append(
            f"<rect x='{x0:.1f}' y='{y0:.1f}' width='{x1 - x0:.1f}' height='{y1 - y0:.1f}' "
            f"fill='var(--{colour})' fill-opacity='{opacity:.2f}'/>"
        )

    def curve(self, f: Callable[[float], float], colour: str, kind: str = "") -> None:
        """Draw a function over the whole width."""
        self.line(samples(f, *self.x), colour, kind)

    def dot(self, point: Point, colour: str) -> None:
        """Draw a dot."""
        x, y = self.place(point)
        self.parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='var(--{colour})'/>")

    def text(self, point: Point, words: str, colour: str = "ink", anchor: str = "start") -> None:
        """Write words that begin, are centred or end at a point."""
        x, y = self.place(point)
        self.parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}' fill='var(--{colour})' "
            f"text-anchor='{anchor}'>{words}</text>"
        )

    def axes(self, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]]) -> None:
        """Draw the left and the lower edge with labels at some places."""
        (left, right), (low, high) = self.x, self.y
        self.line([(left, high), (left, low), (right, low)], "faint", "thin")
        for where, label in x:
            across, down = self.place((where, low))
            self._label(across, down + 19, label, "middle")
        for where, label in y:
            across, down = self.place((left, where))
            self._label(across - 6, down + 5, label, "end")

    def svg(self) -> str:
        """Return the file."""
        body = "\n".join(self.parts)
        return (
            "<svg xmlns='http://www.w3.org/2000/svg' class='figure' role='img' "
            f"viewBox='0 0 {WIDTH} {HEIGHT}'>\n{body}\n</svg>\n"
        )

    def _label(self, x: float, y: float, words: str, anchor: str) -> None:
        self.parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}' fill='var(--faint)' "
            f"text-anchor='{anchor}'>{words}</text>"
        )

    def _d(self, points: Iterable[Point]) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.place, points))


def samples(f: Callable[[float], float], first: float, last: float) -> list[Point]:
    """Return points of a function's graph."""
    return [(float(x), f(float(x))) for x in np.linspace(first, last, 81)]


def secant() -> Canvas:
    """A loss, its tangent at the start, and its chord to the end of a long step."""

    def loss(w: float) -> float:
        return (w * w - 1) ** 2 / 4

    start, end = 1.6, -0.6
    canvas = Canvas("The tangent and the chord of a loss", (-1.3, 1.9), (-1.1, 1.75))
    slope = start * (start * start - 1)
    canvas.line([(start, loss(start)), (1.0, loss(start) - 0.6 * slope)], "red", "dashed")
    canvas.curve(loss, "ink")
    canvas.line([(start, loss(start)), (end, loss(end))], "blue")
    canvas.dot((start, loss(start)), "ink")
    canvas.dot((end, loss(end)), "blue")
    canvas.text((1.66, 0.52), "start")
    canvas.text((-0.63, 0.23), "end", "blue", "end")
    canvas.text((0.95, -0.8), "the gradient's promise", "red", "end")
    canvas.text((0.3, 0.5), "the chord", "blue", "middle")
    canvas.axes([(start, "w"), (end, "w + Δ")], [(0, "0")])
    return canvas


def chord() -> Canvas:
    """Tanh between two inputs, with its tangent and its chord."""
    a, b = -0.5, 2.0
    canvas = Canvas("The chord of tanh", (-2.2, 2.8), (-1.15, 1.75))
    canvas.curve(math.tanh, "ink")
    slope = 1 - math.tanh(a) ** 2
    canvas.line([(a, math.tanh(a)), (b, math.tanh(a) + (b - a) * slope)], "red", "dashed")
    canvas.line([(a, math.tanh(a)), (b, math.tanh(b))], "blue")
    for x in (a, b):
        canvas.dot((x, math.tanh(x)), "ink")
    canvas.text((1.25, 1.5), "J, at the start", "red", "end")
    canvas.text((0.75, 0.0), "J̄, the chord", "blue")
    canvas.text((-2.1, -0.85), "tanh")
    canvas.axes([(a, "a"), (b, "b")], [(-1, "-1"), (0, "0"), (1, "1")])
    return canvas


def digits() -> Canvas:
    """The correct digits of tanh's averaged slope in float32, over the size of the step."""
    canvas = Canvas("Correct digits of the slope in float32", (-7, 0), (0, 8.2))
    rng = np.random.default_rng(0)
    a = rng.uniform(-2, 2, 4000).astype(np.float32)
    exponents = np.linspace(-7, 0, 29)
    curves: dict[str, list[Point]] = {"naive": [], "derivative": [], "agrad": []}
    for exponent in exponents:
        b = (a + np.float32(10.0**exponent)).astype(np.float32)
        x, y = a[a != b], b[a != b]
        wide = x.astype(np.float64), y.astype(np.float64)
        gap = wide[1] - wide[0]
        true = (1 - np.tanh(wide[0]) * np.tanh(wide[1])) * np.tanh(gap) / gap
        f_x, f_y = (np.tanh(z).astype(np.float32) for z in wide)
        found = {
            "naive": (f_y - f_x) / (y - x),
            "derivative": 1 - f_x.astype(np.float64) ** 2,
            "agrad": tanh.average_backward(np.ones_like(x), x, f_x, y, f_y),
        }
        for name, slopes in found.items():
            worst = float(np.abs(slopes / true - 1).max())
            curves[name].append((float(exponent), max(0.0, -math.log10(worst))))
    canvas.line(curves["naive"], "red")
    canvas.line(curves["derivative"], "ink", "dashed")
    canvas.line(curves["agrad"], "blue")
    canvas.text((-3.5, 7.5), "agrad's formula", "blue", "middle")
    canvas.text((-1.6, 3.7), "naive quotient", "red")
    canvas.text((-6.9, 4.7), "derivative at a")
    canvas.axes(
        [(-6, "10⁻⁶"), (-4, "10⁻⁴"), (-2, "10⁻²"), (-0.3, "b - a")],
        [(0, "0"), (2, "2"), (4, "4"), (6, "6"), (8, "8")],
    )
    return canvas


def path() -> Canvas:
    """The way of h = w₁² while w₁ goes from 0 to 1, and its chord: 1/6 between them."""
    canvas = Canvas("The curved path of an inner value", (0, 1), (0, 1.1))
    canvas.area(samples(lambda t: t * t, 0, 1), "blue")
    canvas.curve(lambda t: t * t, "ink")
    canvas.line([(0, 0), (1, 1)], "blue")
    canvas.text((0.45, 0.6), "the chord, t", "blue", "end")
    canvas.text((0.72, 0.35), "h = t²")
    canvas.text((0.53, 0.4), "1/6", "blue", "middle")
    canvas.axes([(0, "0"), (0.5, "t"), (1, "1")], [(0, "0"), (1, "1")])
    return canvas


def covariance() -> Canvas:
    """How the factors w₂ = t and 2w₁ = 2t vary together: 1/6 below the curve."""
    canvas = Canvas("The covariance of two factors", (0, 1), (0, 0.55))
    points = samples(lambda t: 2 * (t - 0.5) ** 2, 0, 1)
    canvas.area([(0, 0), *points, (1, 0)], "red")
    canvas.line(points, "ink")
    canvas.text((0.5, 0.3), "(t - ½)(2t - 1)", "ink", "middle")
    canvas.text((0.93, 0.06), "1/6", "red", "middle")
    canvas.axes([(0, "0"), (0.5, "t"), (1, "1")], [(0, "0"), (0.5, "½")])
    return canvas


def landscape(
    title: str,
    hessian: Sequence[Sequence[float]],
    start: Point,
    base: Callable[[ag.Tensor], optim.Optimizer],
    window: tuple[Point, Point],
) -> tuple[Canvas, dict[str, Point]]:
    """Draw a quadratic, a proposal and the box of its fractions, and what is chosen in it.

    Returns the drawing, and where the points "end", "element" and "model" lie.
    """
    canvas = Canvas(title, *window)
    h = np.array(hessian)

    def loss(x: ag.Tensor) -> ag.Tensor:
        return 0.5 * (x @ h @ x)

    def leaf() -> ag.Tensor:
        return ag.tensor(np.array(start), requires_grad=True)

    values, vectors = np.linalg.eigh(h)
    angles = np.linspace(0, 2 * np.pi, 145)
    corners = np.array([(x, y) for x in window[0] for y in window[1]])
    highest = 0.5 * np.einsum("ni,ij,nj->n", corners, h, corners).max()
    for share in (0.01, 0.04, 0.1, 0.2, 0.4, 0.7):
        radii = np.sqrt(2 * share * highest / values)
        ellipse = (radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)) @ vectors.T
        for piece in _visible(ellipse, window):
            canvas.line(piece, "faint", "thin")

    points = {}
    x = leaf()
    loss(x).backward()
    base(x).step()
    points["end"] = _point(x)
    for granularity in ("element", "model"):
        x = leaf()
        optim.AverageGradient(base(x), granularity=granularity, verify=False).step(loss(x))
        points[granularity] = _point(x)
    end = points["end"]
    canvas.line([start, (end[0], start[1]), end, (start[0], end[1]), start], "ink", "thin dashed")
    canvas.line([start, end], "red", "dashed")
    canvas.dot((0.0, 0.0), "faint")
    canvas.dot(start, "ink")
    for name, colour in (("end", "red"), ("element", "blue"), ("model", "green")):
        canvas.dot(points[name], colour)
    return canvas, points


def fractions() -> Canvas:
    """Fractions per element serve a quadratic whose coordinates hardly interact."""
    start = (1.6, 0.9)
    canvas, points = landscape(
        "Fractions of a step, coordinates that hardly interact",
        [[1.0, 0.3], [0.3, 4.0]],
        start,
        lambda x: optim.SGD([x], lr=0.7),
        ((-1.0, 2.2), (-2.3, 1.3)),
    )
    canvas.text((start[0] + 0.08, start[1] + 0.1), "start")
    canvas.text((points["end"][0] - 0.06, points["end"][1] - 0.02), "proposal", "red", "end")
    canvas.text(
        (points["element"][0] - 0.08, points["element"][1] + 0.15), "element", "blue", "end"
    )
    canvas.text((points["model"][0] + 0.08, points["model"][1] - 0.12), "model", "green")
    return canvas


def trap() -> Canvas:
    """Fractions per element raise a convex quadratic whose coordinates work against each other."""
    start = (0.2, -0.1)
    canvas, points = landscape(
        "Fractions of a step, coordinates that interact",
        [[1.0, 0.93], [0.93, 2.2]],
        start,
        lambda x: optim.RMSprop([x], lr=1.0, alpha=0.0),
        ((-1.2, 0.7), (-0.5, 1.15)),
    )
    canvas.text((start[0] + 0.04, start[1] - 0.09), "start")
    canvas.text((points["model"][0] + 0.04, points["model"][1] + 0.06), "model", "green")
    canvas.text((points["end"][0] + 0.04, points["end"][1] + 0.06), "proposal", "red")
    canvas.text((points["element"][0] + 0.04, points["element"][1] - 0.12), "element", "blue")
    return canvas


def ledger() -> Canvas:
    """What each layer of the deep tanh network promised and delivered in one step."""
    ag.seed(0)
    model = dense_network(64, 10, depth=30)
    images, labels = ag.data.digits("train")
    loss = F.cross_entropy(model(images[:128]), labels[:128])
    gradients = ag.grad(loss, list(model.parameters()), retain_graph=True)
    updates = {p: -1e-3 * np.sign(g.data) for p, g in zip(model.parameters(), gradients)}
    layers = ag.loss_ledger(loss, updates, model.named_parameters()).layers
    canvas = Canvas("Promised and delivered by layer", (0, len(layers)), (-0.0105, 0.0012))
    for i, layer in enumerate(layers):
        canvas.box((i + 0.1, 0), (i + 0.48, layer.promised), "red")
        canvas.box((i + 0.52, 0), (i + 0.9, layer.delivered), "blue")
    canvas.line([(0, 0), (len(layers), 0)], "faint", "thin")
    canvas.text((0, 0.0005), "promised", "red")
    canvas.text((6, 0.0005), "delivered", "blue")
    canvas.text((len(layers), 0.0005), "in thousandths", "faint", "end")
    canvas.axes(
        [(2, "first layer"), (len(layers) - 1.5, "last")],
        [(0, "0"), (-0.005, "-5"), (-0.01, "-10")],
    )
    return canvas


def accuracy(activation: str) -> Canvas:
    """The digits of five estimates, by depth and step, from the file of the measurement."""
    measured = json.loads(ACCURACY.read_text(encoding="utf-8"))
    steps, depths = measured["steps"], measured["depths"]
    errors = measured["errors"][activation]
    names = list(errors[str(depths[0])])
    width = len(steps) + 1
    canvas = Canvas(f"Digits of five estimates, {activation}", (0, width * 3 - 1), (0, 11.2))
    for i, name in enumerate(names):
        left, low = width * (i % 3), 6.4 - 6 * (i // 3)
        canvas.text((left, low + 4.2), name)
        for row, depth in enumerate(depths):
            for column, error in enumerate(errors[str(depth)][name]):
                digits = max(0.0, -math.log10(error))
                corner = left + column, low + row
                canvas.box(corner, (corner[0] + 1, corner[1] + 1), "blue", min(1.0, digits / 6))
        canvas.line(
            [
                (left + x * len(steps), low + y * 4)
                for x, y in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
            ],
            "faint",
            "thin",
        )
        for row, depth in enumerate(depths if i % 3 == 0 else ()):
            canvas.text((left - 0.3, low + row + 0.3), str(depth), "faint", "end")
    left = 2 * width
    for digits in range(7):
        canvas.box((left + digits, 2.4), (left + digits + 1, 3.4), "blue", digits / 6)
    canvas.text((left, 3.6), "digits", "ink")
    canvas.text((left + 0.1, 1.4), "0", "faint")
    canvas.text((left + 6.1, 1.4), "6", "faint")
    return canvas


def accuracy_tanh() -> Canvas:
    """The map of the errors of tanh networks."""
    return accuracy("tanh")


def accuracy_relu() -> Canvas:
    """The map of the errors of ReLU networks."""
    return accuracy("relu")


def _point(x: ag.Tensor) -> Point:
    return float(x.data[0]), float(x.data[1])


def _visible(points: Iterable[Point], window: tuple[Point, Point]) -> list[list[Point]]:
    """Cut a closed line into its pieces inside the window."""
    (left, right), (low, high) = window
    pieces: list[list[Point]] = [[]]
    for x, y in points:
        if left <= x <= right and low <= y <= high:
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if len(piece) > 1]


FIGURES = {
    figure.__name__: figure
    for figure in (
        secant,
        chord,
        digits,
        path,
        covariance,
        fractions,
        trap,
        ledger,
        accuracy_tanh,
        accuracy_relu,
    )
}
"""The functions that draw, by the names of their files."""


def main() -> None:
    """Write every figure beside this script."""
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
