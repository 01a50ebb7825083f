"""The faults that mutation.py plants: what the derivative and averaging code could get wrong.

Each names the tests that are likely to find it, so that they are run first; any test may.
"""

from dataclasses import dataclass

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, the text `new` in the place of `old`, which is there exactly once."""

    file: str
    old: str
    new: str
    fault: str
    tests: str
    """Names of files of tests, without the prefix "test_"."""
    only: str = ""
    """pytest's -k: which of their tests."""

    def plant(self, source: str) -> str:
        """Return the source with the fault.

        Raises:
            ValueError: `old` is not there exactly once.
        """
        if (count := source.count(self.old)) != 1:
            raise ValueError(
                f"{self.file} has {self.old!r} {count} times, not once; adapt the mutant "
                f"{self.fault!r} to the source as it is now"
            )
        return source.replace(self.old, self.new)


OPERATION = "agrad/ops/operation.py"
ARITHMETIC = "agrad/ops/arithmetic.py"
LINALG = "agrad/ops/linalg.py"
REDUCTION = "agrad/ops/reduction.py"
SOFTMAX = "agrad/ops/softmax.py"
SEQUENCE = "agrad/ops/sequence.py"
LOSS = "agrad/ops/loss.py"
SHAPE = "agrad/ops/shape.py"
PROGRAM = "agrad/core/program.py"
FUSION = "agrad/tracing/dense.py"
OPTIMIZER = "agrad/optim/average_gradient.py"
SEARCH = "agrad/optim/line_search.py"
ACTIVATION = "kernels/cpu/activation.py"
DIFFERENCE = "kernels/cpu/divided_difference.py"
POOLING = "kernels/cpu/pooling.py"
STEPS = "kernels/cpu/optimizer.py"
FLAT = "agrad/core/flat.py"
CUDA = "agrad/gpu/cuda.py"
GRAPH = "agrad/gpu/graph.py"
STEP = "agrad/gpu/step.py"
RULE = "agrad/optim/optimizer.py"
SCHEDULE = "agrad/optim/schedule.py"
TENSOR = "agrad/core/tensor.py"
CHECKPOINT = "agrad/checkpoint.py"
CHECK = "agrad/testing/gradients.py"

KINDS = [
    Mutant(
        OPERATION,
        "inputs = map(midpoint, start.inputs, end.inputs)",
        "inputs = start.inputs",
        "multilinear: the start in place of the midpoint",
        "average",
        "multiply or matmul",
    ),
    Mutant(
        OPERATION,
        "nodes=(self.degree + 1) // 2)",
        "nodes=1)",
        "multilinear: one node for any degree",
        "average",
        "einsum",
    ),
    Mutant(
        OPERATION,
        "return (grad * self.divided_difference(*start.inputs, *end.inputs),)",
        "return self.backward(grad, needs, start.out, *start.inputs)",
        "elementwise: the derivative at the start",
        "average",
        "sigmoid",
    ),
    Mutant(
        OPERATION,
        "return (grad * self.divided_difference(*start.inputs, *end.inputs),)",
        """(a,), (b,) = start.inputs, end.inputs
        (derivative,) = self.backward(np.ones_like(grad), needs, start.out, a)
        quotient = (end.out - start.out) / np.where(a == b, 1, b - a)
        return (grad * np.where(a == b, derivative, quotient),)""",
        "elementwise: the naive quotient, the derivative where it is 0/0",
        "average",
        "sigmoid",
    ),
    Mutant(
        OPERATION,
        "return [grad * share for share in self.average_shares(start, end)]",
        "return [grad * share for share in self.shares(start.out, *start.inputs)]",
        "selection: the choice at the start for the whole segment",
        "average",
        "maximum",
    ),
    Mutant(
        OPERATION,
        "return (x_grad + self._correction(x_grad, grad, start, end),)",
        "return (x_grad,)",
        "smooth: no correction to completeness",
        "average",
        "layer_norm or softmax",
    ),
    Mutant(
        OPERATION,
        "total: Array = values.sum(axis=self.axis, keepdims=True)",
        "total: Array = values.sum(keepdims=True)",
        "smooth: one correction for all problems, not one for each",
        "average",
        "layer_norm or softmax",
    ),
    Mutant(
        OPERATION,
        "return missing / scale / np.maximum(over_axis(unit * unit), 1) * unit",
        "return missing / scale * unit",
        "smooth: a correction not divided by the square of the step",
        "average",
        "layer_norm or softmax",
    ),
    Mutant(
        OPERATION,
        "missing = np.where(np.abs(missing) > noise, missing, 0)",
        "missing = np.where(noise >= 0, missing, 0)",
        "smooth: rounding taken for a lack, and divided by a small step",
        "average",
        "layer_norm or softmax",
    ),
    Mutant(
        OPERATION,
        "part = operation.backward(as_array(weight * grad), needs, out, *inputs)",
        "part = operation.backward(as_array(grad / nodes), needs, out, *inputs)",
        "quadrature: equal weights",
        "average",
        "einsum or prod",
    ),
    Mutant(
        OPERATION,
        "out = operation.forward(*inputs) if isinstance(operation, Smooth) else start.out",
        "out = start.out",
        "quadrature: the output of the start at every node",
        "average",
        "softmax or logsumexp",
    ),
]

OPERATIONS = [
    Mutant(
        ARITHMETIC,
        "return grad, -grad if needs[1] else None",
        "return grad, grad if needs[1] else None",
        "subtract: the sign of the second operand's gradient",
        "gradients",
        "subtract",
    ),
    Mutant(
        ARITHMETIC,
        "return grad * y if needs[0] else None, grad * x if needs[1] else None",
        "return grad * x if needs[0] else None, grad * y if needs[1] else None",
        "multiply: the operands swapped",
        "gradients",
        "multiply",
    ),
    Mutant(
        ARITHMETIC,
        "x_grad = grad * ((1 / y0 + 1 / y1) / 2) if needs[0] else None",
        "x_grad = grad / ((y0 + y1) / 2) if needs[0] else None",
        "divide: the reciprocal of the mean for the mean of the reciprocals",
        "average",
        "divide",
    ),
    Mutant(
        ARITHMETIC,
        """_mean_over_ends(lambda y: secants.in_base(x0, x1, y), y0, y1)
        if needs[1]:
            y_grad = grad * _mean_over_ends(lambda x: secants.in_exponent(y0, y1, x), x0, x1)""",
        """secants.in_base(x0, x1, y0)
        if needs[1]:
            y_grad = grad * secants.in_exponent(y0, y1, x1)""",
        "power: one of the two paths, complete but not symmetric",
        "average",
        "power",
    ),
    Mutant(
        ARITHMETIC,
        "return np.where(still, clipped == a, quotient)",
        "return quotient",
        "clip: 0 where start and end are equal",
        "average",
        "clip",
    ),
    Mutant(
        ARITHMETIC,
        "np.add(x > y, x >= y, dtype=np.int8)",
        "np.add(x > y, x > y, dtype=np.int8)",
        "maximum: of equal elements only one has the gradient",
        "functional gradients tensor",
        "maximum or tie",
    ),
    Mutant(
        LINALG,
        "x = midpoint(x0, x1) if needs[1] else x0",
        "x = x0",
        "dense layer: the inputs' start in place of their midpoint",
        "average",
        "linear",
    ),
    Mutant(
        LINALG,
        "bias_grad = kernels(rows).dense.sum_rows(rows) if needs[2] else None",
        "bias_grad = rows[-1:].sum(axis=0) if needs[2] else None",
        "dense layer: the bias's gradient of the last example alone",
        "gradients",
        "linear",
    ),
    Mutant(
        LINALG,
        "self.degree = len(self.terms)",
        "self.degree = 2",
        "einsum: any number of factors averaged as two",
        "average",
        "einsum",
    ),
    Mutant(
        REDUCTION,
        "return (np.broadcast_to(self.restore(grad, x) / self.count(x), x.shape),)",
        "return (np.broadcast_to(self.restore(grad, x), x.shape),)",
        "mean: the factor 1 / n",
        "gradients",
        "mean",
    ),
    Mutant(
        REDUCTION,
        "return (self.restore(grad, x) * (2 / self.freedom(x)) * centred,)",
        "return (self.restore(grad, x) * (2 / self.count(x)) * centred,)",
        "variance: ddof not taken off",
        "gradients",
        "var",
    ),
    Mutant(
        REDUCTION,
        "scale = _inverse(start.out + end.out)",
        "scale = _inverse(2 * start.out)",
        "standard deviation: the root's derivative at the start",
        "average",
        "std",
    ),
    Mutant(
        REDUCTION,
        "return (chosen / np.sum(chosen, axis=self.axes(x), keepdims=True),)",
        "return (chosen,)",
        "max: equal elements have the whole gradient each",
        "functional gradients tensor average",
        "max or tie or equal",
    ),
    Mutant(
        REDUCTION,
        "shares = average_shares(self.rows(self.sign * x0), self.rows(self.sign * x1))",
        "shares = average_shares(self.rows(x0), self.rows(x1))",
        "min: averaged as the max",
        "average",
        "min",
    ),
    Mutant(
        REDUCTION,
        "nodes = 8",
        "nodes = 1",
        "product: the midpoint for any number of factors",
        "average",
        "prod",
    ),
    Mutant(
        SOFTMAX,
        "x_grad -= out * x_grad.sum(axis=self.axis, keepdims=True)",
        "x_grad -= out * x_grad.sum(axis=0, keepdims=True)",
        "softmax: summed along the wrong axis",
        "gradients",
        "softmax",
    ),
    Mutant(
        SOFTMAX,
        "average: Array = p * (1 - slope * centered)",
        "average: Array = p",
        "log-softmax: no correction to completeness",
        "average",
        "log_softmax",
    ),
    Mutant(
        SEQUENCE,
        "Point(start.out, (self.candidates(x0),)), Point(end.out, (self.candidates(x1),))",
        "Point(start.out, (x0,)), Point(end.out, (x1,))",
        "masked max: the mask dropped from the average",
        "average",
        "global_max",
    ),
    Mutant(
        SEQUENCE,
        "return (grad[..., np.newaxis] * (self.mask / self.counts(x)),)",
        "return (grad[..., np.newaxis] * (np.ones_like(x) / self.counts(x)),)",
        "masked mean: the mask dropped from the gradient",
        "gradients",
        "global_avg",
    ),
    Mutant(
        SEQUENCE,
        "skipped = -1 if self.padding is None else self.padding",
        "skipped = -1",
        "embedding: the row of padding gets a gradient",
        "sequence",
        "padding",
    ),
    Mutant(
        LOSS,
        "x_grad[self.picked] = -grad if self.weight is None else -grad * self.weight",
        "x_grad[self.picked] = -grad",
        "negative log-likelihood: the classes' weights dropped",
        "gradients",
        "nll_loss",
    ),
    Mutant(
        "kernels/cpu/softmax.py",
        "p[j, i] *= 1 - real(sums[i]) * (step[j, i] - tops[i])",
        "p[j, i] *= 1",
        "cross-entropy: no correction to completeness",
        "softmax",
        "completeness",
    ),
    Mutant(
        LOSS,
        "self.negative * softplus(a, b) - self.positive * softplus(-a, -b)",
        "self.negative * softplus(a, b) - self.positive * softplus(a, b)",
        "binary cross-entropy: the reflection dropped from the average",
        "average",
        "binary",
    ),
    Mutant(
        "kernels/cpu/normalization.py",
        "x_grad[row, j] = scale * ((x_grad[row, j] - common) - along * c)",
        "x_grad[row, j] = scale * (x_grad[row, j] - common)",
        "normalization: the way through the deviation dropped",
        "gradients",
        "layer_norm",
    ),
    Mutant(
        "kernels/cpu/normalization.py",
        "if dd > 0:",
        "if dd < 0:",
        "normalization: no correction to completeness",
        "normalization",
        "completeness",
    ),
    Mutant(
        SHAPE,
        "inverse = np.argsort([axis % x.ndim for axis in self.axes]).tolist()",
        "inverse = [axis % x.ndim for axis in self.axes]",
        "transpose: the permutation not inverted",
        "gradients",
        "transpose",
    ),
    Mutant(
        SHAPE,
        "if self.repeats:",
        "if False:",
        "indexing: elements named twice assigned, not added to",
        "tensor",
        "index",
    ),
    Mutant(
        "agrad/ops/dropout.py",
        "return (grad * self.mask,)",
        "return (grad,)",
        "dropout: the mask dropped from the gradient",
        "gradients",
        "dropout",
    ),
    Mutant(
        "agrad/ops/convolution.py",
        "out: Array = by_image.sum(axis=0)",
        "out: Array = by_image[-1]",
        "convolution: the bias's gradient of the last image alone",
        "gradients",
        "convolution",
    ),
    Mutant(
        ACTIVATION,
        "return grad * (_ONE - out * out)",
        "return grad * (_ONE - out)",
        "tanh: the square in the derivative dropped",
        "gradients",
        "tanh",
    ),
]

SWEEPS = [
    Mutant(
        PROGRAM,
        "gradient = np.add(known, gradient, out=place)",
        "pass",
        "sweep: the last of several gradients in place of their sum",
        "program",
    ),
    Mutant(
        PROGRAM,
        "gradient = gradient.copy()",
        "pass",
        "sweep: leaves' gradients share memory with others",
        "gradients program",
        "shared or sum or cotangent",
    ),
    Mutant(
        PROGRAM,
        "found = operation.average_backward(grad, self.needs, Point(out, inputs), ends)",
        "found = operation.backward(grad, self.needs, out, *inputs)",
        "average sweep: Jacobians at the start",
        "average",
        "example or six_tanh or product",
    ),
    Mutant(
        PROGRAM,
        "total[leaf] = total[leaf] + grad if leaf in total else grad",
        "total[leaf] = grad",
        "average sweep: the last segment in place of the sum of all",
        "average",
        "segments",
    ),
    Mutant(
        PROGRAM,
        "moved = path(i / segments)",
        "moved = path(1 / segments)",
        "average sweep: segments of unequal lengths",
        "average",
        "segments",
    ),
    Mutant(
        PROGRAM,
        "grad = grad.sum(axis=(*range(lead), *stretched)).reshape(like.shape)",
        "grad = grad.mean(axis=(*range(lead), *stretched)).reshape(like.shape)",
        "sweep: broadcasting undone by a mean in place of a sum",
        "program",
        "broadcast",
    ),
    Mutant(
        PROGRAM,
        "return sorted(seen, key=lambda node: node.depth)",
        "return list(reversed(seen))",
        "sweep: nodes in the order found, not after all that they depend on",
        "program",
        "path or diamond",
    ),
    Mutant(
        PROGRAM,
        "(4 * fine[x] - grad) / 3",
        "2 * fine[x] - grad",
        "extrapolation: complete, but of the wrong order",
        "average",
        "tanh_layers or order_promised",
    ),
    Mutant(
        "agrad/core/average.py",
        "total[i] += weight * grads[param]",
        "total[i] = weight * grads[param]",
        "quadrature of the gradient: the last node in place of the sum",
        "average",
        "average_gradient",
    ),
]

OPTIMIZERS = [
    Mutant(
        OPTIMIZER,
        "self.cap if i == 0 else 1.0)",
        "self.cap)",
        "repeats: every round may lengthen the update",
        "average_gradient",
        "definition",
    ),
    Mutant(
        OPTIMIZER,
        "math.exp(self.gain * (self.fraction - self.target))",
        "math.exp(self.gain * (self.target - self.fraction))",
        "automatic rate: it moves the wrong way",
        "average_gradient",
        "rate",
    ),
    Mutant(
        OPTIMIZER,
        "scale(proposal, [self._fractions[param] for param in params], self.granularity)",
        "pass",
        "every: the kept fractions not used between measurements",
        "average_gradient",
        "definition or kept",
    ),
    Mutant(
        OPTIMIZER,
        "proposed = whole / cut if cut > 0 else math.inf",
        "proposed = whole if cut > 0 else math.inf",
        "retreat: the cut not counted in the automatic rate",
        "average_gradient",
        "cut or infinity",
    ),
    Mutant(
        SEARCH,
        "rows = array.shape[0] if",
        "rows = array.shape[-1] if",
        "row: groups along the wrong axis",
        "average_gradient",
        "row",
    ),
    Mutant(
        STEPS,
        "vertex = -slope / (curvature + curvature)",
        "vertex = -slope / curvature",
        "line search: the vertex's factor 1/2",
        "average_gradient",
        "minimum",
    ),
    Mutant(
        STEPS,
        "vertex = min(max(vertex, 0 * cap), cap)",
        "vertex = max(vertex, 0 * cap)",
        "line search: the cap dropped",
        "average_gradient",
        "minimum",
    ),
    Mutant(
        STEPS,
        "whole = cap if -math.inf < end < 0 else 0 * cap",
        "whole = cap if slope < 0 else 0 * cap",
        "line search: the slope at the start decides, not the value at the cap",
        "average_gradient",
        "minimum",
    ),
    Mutant(
        STEPS,
        "best_fraction(g[i] if forward else -g[i], rise if forward else -rise, cap)",
        "best_fraction(g[i] if forward else -g[i], rise, cap)",
        "line search: the sign of the curvature where an update is negative",
        "average_gradient",
        "minimum",
    ),
    Mutant(
        STEPS,
        "slope += share",
        "slope = share",
        "line search of groups: the last slope in place of the sum",
        "average_gradient",
        "row",
    ),
    Mutant(
        RULE,
        "known = {str(i): param for i, param in enumerate(self.params)}",
        "known = dict(zip(sorted(map(str, range(len(self.params)))), self.params))",
        "a loaded state given to the parameters in the order of strings, 10 before 2",
        "rules",
        "each_of_many",
    ),
    Mutant(
        RULE,
        "if used is not None and used is self.first_grad():",
        "if False:",
        "a step on a loss with the gradients of the last one",
        "rules average_gradient",
        "of_the_last_step",
    ),
]

KERNELS = [
    Mutant(
        "kernels/cpu/segment.py",
        "return (most, ratio * most) if above > below else (ratio * most, most)",
        "return (most, ratio * most) if above < below else (ratio * most, most)",
        "kinks: the parts above and below zero swapped",
        "divided_difference",
        "relu",
    ),
    Mutant(
        ACTIVATION,
        "power, rest = split_exp(max(-_TWO * min(abs(a), abs(b)), lowest))",
        "power, rest = split_exp(max(-_TWO * max(abs(a), abs(b)), lowest))",
        "tanh, averaged: the farther end factored out",
        "divided_difference",
        "tanh",
    ),
    Mutant(
        ACTIVATION,
        "mean = (drop + drop * rest) * ((_ONE + abs(f_a))",
        "mean = drop * ((_ONE + abs(f_a))",
        "tanh, averaged: the rest of the exponential dropped",
        "divided_difference",
        "tanh",
    ),
    Mutant(
        "kernels/cpu/logistic.py",
        "mean = (drop + drop * rest) / (quarter_gap",
        "mean = drop / (quarter_gap",
        "sigmoid, averaged: the rest of the exponential dropped",
        "divided_difference",
        "sigmoid",
    ),
    Mutant(
        "kernels/cpu/logistic.py",
        "right = 1 - _softplus_below(min(-high, 0.0), min(-low, 0.0))",
        "right = 1 - _softplus_below(min(-high, 0.0), min(-high, 0.0))",
        "softplus: one end for both above zero",
        "divided_difference",
        "softplus",
    ),
    Mutant(
        "kernels/cpu/gelu.py",
        "_normal_below(low) + high * _mean_density(low, high)",
        "_normal_below(low) + low * _mean_density(low, high)",
        "GELU: the lower end for the higher",
        "divided_difference",
        "gelu",
    ),
    Mutant(
        DIFFERENCE,
        "drop = -math.expm1(-gap)",
        "drop = 1 - math.exp(-gap)",
        "exponential: the naive difference",
        "divided_difference",
        "exp",
    ),
    Mutant(
        DIFFERENCE,
        "if ratio == math.inf:  # or too far apart for anything to cancel",
        "if ratio >= 0:",
        "logarithm: the naive quotient",
        "divided_difference",
        "log",
    ),
    Mutant(
        DIFFERENCE,
        "return 1 / (math.sqrt(a) + math.sqrt(b))",
        "return 0.5 / math.sqrt(0.5 * (a + b))",
        "square root: the derivative at the midpoint",
        "divided_difference",
        "sqrt",
    ),
    Mutant(
        DIFFERENCE,
        "return _cosine(middle, rest) * _sine_over_halfgap_of(a, b)",
        "return _cosine(middle, rest)",
        "sine: the derivative at the midpoint",
        "divided_difference",
        "sin",
    ),
    Mutant(
        POOLING,
        "x_grad[plane, row, column] += grad[plane, i, j]",
        "x_grad[plane, row, column] = grad[plane, i, j]",
        "max pooling: overlapping windows assign, not add",
        "gradients",
        "max_pool",
    ),
    Mutant(
        POOLING,
        "flat_grad[places[leader]] += (end_time - time) * grad[plane, i, j]",
        "flat_grad[places[leader]] = (end_time - time) * grad[plane, i, j]",
        "max pooling, averaged: overlapping windows assign, not add",
        "average",
        "max_pool",
    ),
    Mutant(
        POOLING,
        "x_grad[plane, y, k] += part",
        "x_grad[plane, y, k] = part",
        "average pooling: overlapping windows assign, not add",
        "gradients",
        "avg_pool",
    ),
]

JOINED = [
    Mutant(
        ACTIVATION,
        "* ((_ONE + abs(f_a)) * (_ONE + abs(f_b)))",
        "* ((_ONE + f_a) * (_ONE + f_b))",
        "tanh, averaged with its values: their signs left in",
        "dense average",
        "tanh",
    ),
    Mutant(
        ACTIVATION,
        "return grad * (_ZERO if whole == 0 else share)",
        "return grad * (_ONE if whole == 0 else share)",
        "ReLU, averaged: a slope of 1 where both ends are zero",
        "dense average",
        "relu",
    ),
    Mutant(
        FUSION,
        "x = midpoint(x, x1) if self.needs[1] else x",
        "x = x",
        "captured dense layer: the inputs' start in place of their midpoint",
        "captured",
        "average",
    ),
    Mutant(
        FUSION,
        "place = places[to_weight] if grads[to_weight] is None else None",
        "place = places[to_weight]",
        "captured: the gradient of a weight of two layers written over",
        "flat",
        "two_layers",
    ),
    Mutant(
        FLAT,
        "return self.use is None and (self._lent is None or self._lent() is None)",
        "return self.use is None",
        "a buffer of gradients handed out while somebody has a part of it",
        "flat",
        "handed_out or holds",
    ),
    Mutant(
        FLAT,
        "return all(map(is_, arrays, buffer.views))",
        "return arrays[0] is buffer.views[0]",
        "gradients taken to lie in their places by the first of them",
        "flat",
        "place_of_another",
    ),
]

GRAPHS = [
    Mutant(
        GRAPH,
        "array[...] = copy\n",
        "copy[...] = array\n",
        "a graph's run whose conditions do not hold: nothing restored",
        "captured_step",
        "changes_nothing",
    ),
    Mutant(
        GRAPH,
        "numbers[i : i + 1].view(dtype)[0] = make()",
        "numbers[i : i + 1].view(dtype)[0] = 1",
        "a graph's numbers the same in every run",
        "captured_step",
        "rate",
    ),
    Mutant(
        GRAPH,
        "stack.enter_context(flat.with_buffers(buffers))",
        "buffers.clear()",
        "a graph's buffers shared with what is computed without one",
        "captured_step",
        "taken_in_between",
    ),
    Mutant(
        GRAPH,
        "self._kept.append(value)",
        "self._kept.clear()",
        "a graph does not hold on to what a cache may drop",
        "captured_step",
        "cache",
    ),
    Mutant(
        CUDA,
        "with stream, allocator:",
        "with stream:",
        "a graph in memory that others are given",
        "captured_step",
    ),
    Mutant(
        STEP,
        "if recording is None or not recording.is_valid([*self._changing(), *reading]):",
        "if recording is None:",
        "a graph launched whatever has changed since",
        "captured_step",
        "recorded_anew",
    ),
    Mutant(
        STEP,
        "            random.set_state(draws)\n",
        "            pass\n",
        "a step made again with other dropout masks",
        "captured_step",
        "cut_where",
    ),
    Mutant(
        STEP,
        "        self._optimizer.zero_grad()\n        return conclude()",
        "        return conclude()",
        "the gradients of a recording left",
        "captured_step",
        "no_gradients",
    ),
    Mutant(
        RULE,
        'fed numbers."""\n        return self.rule',
        'fed numbers."""\n        return ()',
        "a graph launched whatever options the optimizer has by then",
        "captured_step",
        "recorded_anew",
    ),
    Mutant(
        RULE,
        "fed(partial(number, i))",
        "number(i)",
        "the rate and the count of steps as they were when the graph was recorded",
        "captured_step",
        "does_what and Adam",
    ),
    Mutant(
        OPTIMIZER,
        "return [] if self._measures else list(self._fractions.values())",
        "return []",
        "a graph scales updates by fractions that are no more the last",
        "captured_step",
        "does_what and average",
    ),
    Mutant(
        "agrad/gpu/deferred.py",
        "deferral.condition(condition)",
        "condition.reshape(())",
        "conditions of a graph's run not looked at",
        "captured_step",
        "changes_nothing",
    ),
    Mutant(
        "agrad/backend.py",
        "key = fed(lambda: int(generator().integers(2**63)), np.int64)",
        "key = int(generator().integers(2**63))",
        "the same dropout mask in every run of a graph",
        "captured_step",
        "dropout",
    ),
]

GUARDS = [
    Mutant(
        PROGRAM,
        "    if len(arrays) - len(others) > 1:\n        return True\n",
        "",
        "sweep: no set of taken arrays, one array for two leaves",
        "program",
        "share_no_memory",
    ),
    Mutant(
        PROGRAM,
        "[*inputs, out, grad, *found]",
        "[*inputs, out, grad]",
        "sweep: what a leaf has taken is not noted",
        "program",
        "share_no_memory",
    ),
    Mutant(
        PROGRAM,
        "[*inputs, out, grad, *found]",
        "[*found]",
        "sweep: inputs, output and gradient are not taken from the start",
        "program",
        "share_no_memory",
    ),
    Mutant(
        PROGRAM,
        "np.may_share_memory(gradient, other) for other in others",
        "False for other in others",
        "sweep: views of other arrays given to leaves",
        "program",
        "share_no_memory",
    ),
    Mutant(
        PROGRAM,
        "gradient = np.add(known, gradient, out=place)",
        "gradient = np.add(known, gradient, out=known)",
        "sweep: gradients added up in an array that others have too",
        "program",
        "adding_up",
    ),
    Mutant(
        PROGRAM,
        "        if end is start or self in end.reused:",
        "        if end is start:",
        "average sweep: what does not move is averaged all the same",
        "average",
        "nothing_moves",
    ),
    Mutant(
        PROGRAM,
        "if start is not None and all(map(is_, arrays, step.inputs(start))):",
        "if False:",
        "average sweep: what does not move is run again",
        "program",
        "only_what_moves",
    ),
    Mutant(
        PROGRAM,
        "if lead < 0 or any(n not in (1, m) for n, m in zip(like.shape, grad.shape[lead:])):",
        "if False:",
        "sweep: a gradient of a wrong shape not refused",
        "program",
        "does_not_fit",
    ),
    Mutant(
        "agrad/core/tensor.py",
        "if result.is_writable():",
        "if result.is_writable() and not result._is_view():",
        "a result that is a view not protected",
        "captured gradients",
        "graph_of_a_call or no_array",
    ),
    Mutant(
        FUSION,
        "            and users[affine.result] == 1\n",
        "",
        "dense layers joined where what is between is used again",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and affine.result != program.result\n",
        "",
        "dense layers joined where what is between is the result",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and len(affine.slots) == 3\n",
        "",
        "dense layers joined where there is no bias",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and out.ndim == 2\n",
        "",
        "dense layers joined where there are more axes than two",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and {values[slot].dtype for slot in affine.slots} == {out.dtype}\n",
        "",
        "dense layers joined where dtypes differ",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and out.dtype in (np.float32, np.float64)\n",
        "",
        "dense layers joined where the dtype is another",
        "captured",
        "dense_layers",
    ),
    Mutant(
        FUSION,
        "            and type(affine.operation) is Affine\n",
        "",
        "dense layers joined where the operation is no dense layer",
        "captured",
        "dense_layers",
    ),
    Mutant(
        "agrad/data/batches.py",
        "np.random.default_rng([epoch, self._seed])",
        "np.random.default_rng([0 if self._drop_last else epoch, self._seed])",
        "batches: with drop_last every epoch in the same order",
        "batches",
        "order",
    ),
    Mutant(
        CHECKPOINT,
        "                part.load_state_dict(before[loaded])\n",
        "                part.load_state_dict(before[loaded])\n                break\n",
        "restoring: only the first part is put back",
        "checkpoint",
        "every_part",
    ),
    Mutant(
        CHECKPOINT,
        'best if best and self._path(best["iteration"]).exists() else None',
        "best",
        "checkpoints: the best is kept though its file is gone",
        "checkpoint",
        "best_whose",
    ),
    Mutant(
        RULE,
        "        states = {param: saved[i] for i, param in known.items() if i in saved}\n",
        "        states = dict(zip((known[i] for i in known if i in saved), "
        "map(saved.get, sorted(saved))))\n",
        "an optimizer's state in the order of strings, 10 before 2",
        "rules",
        "each_of_many",
    ),
    Mutant(
        "agrad/optim/arguments.py",
        "if isinstance(value, bool) or not isinstance(value, int | float | np.number):",
        "if not isinstance(value, int | float | np.number):",
        "True taken for a number",
        "rules",
        "refuses_arguments",
    ),
    Mutant(
        "agrad/optim/optimizer.py",
        "        if not saved.keys() <= known.keys():",
        '        self.lr = state["lr"]\n        if not saved.keys() <= known.keys():',
        "a refused state leaves its learning rate behind",
        "states",
        "lying",
    ),
    Mutant(
        "agrad/optim/block.py",
        "kind = param.dtype, param.device, own, param if own.whole else None",
        "kind = param.device, own, param if own.whole else None",
        "parameters of both dtypes in one array",
        "rules",
        "both_dtypes",
    ),
    Mutant(
        "agrad/optim/average_gradient.py",
        "if all(param in self._fractions for param in params):",
        "if True:",
        "fractions asked for where none were kept",
        "average_gradient",
        "when_measured",
    ),
    Mutant(
        "agrad/optim/average_gradient.py",
        "            program.free()  # if no end was finite, no sweep has freed it\n",
        "",
        "a graph without a finite end is not freed",
        "average_gradient",
        "without_a_finite",
    ),
    Mutant(
        OPTIMIZER,
        "str(i): self._fractions[param].copy()",
        "str(i): self._fractions[param]",
        "a state that shares its fractions with the optimizer",
        "states",
        "changes_a_state",
    ),
    Mutant(
        OPTIMIZER,
        "fractions[param] = move(saved[str(i)], param.device).copy()",
        "fractions[param] = move(saved[str(i)], param.device)",
        "an optimizer that shares its fractions with a loaded state",
        "states",
        "changes_a_state",
    ),
    Mutant(
        OPTIMIZER,
        '        steps = require_count(name, "steps", state["steps"])\n',
        '        self.base.load_state_dict(state["base"])\n'
        '        steps = require_count(name, "steps", state["steps"])\n',
        "the base rule's state loaded before the rest is looked at",
        "states",
        "lying",
    ),
    Mutant(
        "agrad/optim/average_gradient.py",
        "program.start_of(p) if p in program.leaves else p.data",
        "p.data",
        "the path starts at the present values, not the recorded ones",
        "average_gradient",
        "measured_from",
    ),
    Mutant(
        "agrad/optim/schedule.py",
        "if eta_min and (optimizer.automatic or optimizer.lr == 0):",
        "if eta_min and optimizer.automatic:",
        "cosine: a floor over a rate of 0 not refused",
        "schedule",
        "schedules_refuse",
    ),
    Mutant(
        SCHEDULE,
        "list(milestones) != sorted(set(milestones))",
        "list(milestones) != sorted(milestones)",
        "equal milestones not refused",
        "schedule",
        "schedules_refuse",
    ),
    Mutant(
        "agrad/nn/batch_norm.py",
        "training=self.training or not self.track_running_stats",
        "training=self.training",
        "batch normalization without running statistics fails in evaluation",
        "layers",
        "BatchNorm or running",
    ),
    Mutant(
        "agrad/nn/functional/normalization.py",
        "elif running_mean is None or running_var is None:",
        "elif running_mean is None and running_var is None:",
        "batch normalization: one running statistic missing not refused",
        "bad_input",
        "batch_norm",
    ),
    Mutant(
        CHECK,
        "measured.jump > 1e-3 * discrepancy",
        "measured.jump > 0",
        "check of gradients: any jump of a slope, rounding too, taken for a kink",
        "checks",
        "kink or bend or rounding_of",
    ),
    Mutant(
        CHECK,
        "measured.jump > 1e-3 * discrepancy",
        "measured.jump > 1e-6 * discrepancy",
        "check of gradients: a kink's jump a millionth of the error",
        "checks",
        "kink or bend or rounding_of",
    ),
    Mutant(
        CHECK,
        "measured.jump > 1e-3 * discrepancy",
        "measured.jump > discrepancy",
        "check of gradients: a kink's jump as large as the error",
        "checks",
        "kink or bend or rounding_of",
    ),
    Mutant(
        "agrad/study/measures.py",
        "(means <= target) & np.isfinite(means)",
        "means <= target",
        "the study: an infinite mean reaches an infinite target",
        "study",
        "finite",
    ),
]

MUTANTS = [*KINDS, *OPERATIONS, *SWEEPS, *OPTIMIZERS, *KERNELS, *JOINED, *GRAPHS, *GUARDS]
