"""The innermost loops of convolution and of stacks of dense layers, in the vector registers.

Each step of a loop multiplies each of some factors by each of some vectors, and adds every product
to a sum of its own: FILTERS factors and up to `widest()` vectors for convolution, `tallest()`
factors and one vector for a stack. LLVM does not find that form in loops over arrays, so it is
written out here in LLVM code, vector by vector, and inlined into the kernels that call it.

A vector of a convolution is a register. One of a stack has VECTOR_BYTES bytes on every machine;
LLVM splits it if registers are shorter.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from .jit import emitted

__all__ = ["FILTERS", "register_bytes", "summed_products", "weighted_sums", "widest"]

VECTOR_BYTES = 64

FILTERS = 4


@functools.cache
def register_bytes() -> int:
    """Return the size of a vector register."""
    from llvmlite.binding import get_host_cpu_features

    features = get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@functools.cache
def widest() -> int:
    """Return how many vectors FILTERS factors can multiply with all sums in registers.

    24 sums, 6 vectors and a factor fill 31 of the 32 registers of AVX-512 and NEON; 12 sums, 3
    vectors and a factor fill the 16 of other machines.
    """
    from llvmlite.binding import get_host_cpu_features

    features = get_host_cpu_features()
    return 6 if features.get("avx512f") or features.get("neon") else 3


@emitted
def weighted_sums(
    builder: Any,
    planes: Any,
    offsets: Any,
    factors: Any,
    taps: Any,
    initial: Any,
    vectors: Any,
    out: Any,
    step: Any,
) -> None:
    """Sum runs of `planes`, each multiplied by one factor for each filter.

    out[f · step + p] = initial[f] + Σₖ factors[k · FILTERS + f] · planes[offsets[k] + p]

    for f < FILTERS, k < taps and the positions p of `vectors` vectors, 1 to `widest()`.
    """
    code = _Vectors(builder, planes, register_bytes())

    def tile(count: int) -> None:
        def add(k: Any, sums: Sequence[Any]) -> list[Any]:
            run = code.at(planes, code.scalar(offsets, k))
            runs = [code.load(run, code.lanes * v) for v in range(count)]
            weights = code.at(factors, builder.mul(k, code.integer(FILTERS)))
            products = product((code.splat(weights, f) for f in range(FILTERS)), runs)
            return [code.multiply_add(*pair, total) for pair, total in zip(products, sums)]

        initials = [code.splat(initial, f) for f in range(FILTERS) for _ in range(count)]
        totals = iter(code.loop(taps, initials, add))
        for f in range(FILTERS):
            line = code.at(out, builder.mul(step, code.integer(f)))
            for v in range(count):
                code.store(next(totals), line, code.lanes * v)

    code.choose(vectors, range(1, widest() + 1), tile)


@emitted
def summed_products(
    builder: Any,
    grads: Any,
    grad_image: Any,
    step: Any,
    filters: Any,
    planes: Any,
    image: Any,
    offsets: Any,
    images: Any,
    vectors: Any,
    out: Any,
) -> None:
    """Sum the products of the gradient of each filter with each of `widest()` runs.

    out[f · widest() + v] =
        Σₙ Σₚ grads[n · grad_image + f · step + p] · planes[n · image + offsets[v] + p]

    for f < `filters`, at most FILTERS, the images n and the positions p of `vectors` vectors.
    """
    code = _Vectors(builder, grads, register_bytes())
    last = builder.sub(filters, code.integer(1))

    def add_image(n: Any, sums: Sequence[Any]) -> list[Any]:
        lines = []
        for f in range(FILTERS):
            exists = builder.icmp_signed("<", code.integer(f), filters)
            line = builder.mul(step, builder.select(exists, code.integer(f), last))
            lines.append(code.at(code.at(grads, builder.mul(n, grad_image)), line))
        plane = code.at(planes, builder.mul(n, image))
        runs = [code.at(plane, code.scalar(offsets, v)) for v in range(widest())]

        def add_vector(i: Any, sums: Sequence[Any]) -> list[Any]:
            place = builder.mul(i, code.integer(code.lanes))
            factors = (code.load(line, place) for line in lines)
            products = product(factors, [code.load(run, place) for run in runs])
            return [code.multiply_add(*pair, total) for pair, total in zip(products, sums)]

        return code.loop(vectors, sums, add_vector)

    for i, total in enumerate(code.loop(images, [code.zero] * (FILTERS * widest()), add_image)):
        builder.store(code.sum(total), code.at(out, i))


@functools.cache
def tallest() -> int:
    """Return how many rows of sums of a vector each `block_product` keeps in registers."""
    from llvmlite.binding import get_host_cpu_features

    return 12 if get_host_cpu_features().get("avx512f") else 6


@emitted
def block_product(
    builder: Any,
    like: Any,
    factors: Any,
    row: Any,
    factor: Any,
    factor_part: Any,
    vectors: Any,
    count: Any,
    parts: Any,
    rows: Any,
    addend: Any,
    addend_row: Any,
    out: Any,
    out_row: Any,
) -> None:
    """Sum vectors, each multiplied by one factor for each row.

    out[i · out_row] = addend[i · addend_row] + Σₚ Σₖ
        factors[i · row + k · factor + p · factor_part] · vectors[p · count + k]

    for i < `rows`, 1 to `tallest()`, p < parts and k < count, summed in this order. `vectors`,
    `addend` and `out` are addresses of vectors, `factors` of numbers, of the type in `like`.
    """
    code = _Vectors(builder, like)
    factors, vectors, addend, out = map(code.pointer, (factors, vectors, addend, out))
    one, run = code.integer(1), builder.mul(count, code.integer(code.lanes))

    def tile(height: int) -> None:
        lines = [builder.mul(row, code.integer(i)) for i in range(height)]

        def add_part(p: Any, sums: Sequence[Any]) -> list[Any]:
            first = code.at(factors, builder.mul(p, factor_part))
            source = code.at(vectors, builder.mul(p, run))

            def add(k: Any, sums: Sequence[Any]) -> list[Any]:
                numbers = code.load(source, builder.mul(k, code.integer(code.lanes)))
                here = code.at(first, builder.mul(k, factor))
                return [
                    code.multiply_add(code.splat(here, line), numbers, total)
                    for line, total in zip(lines, sums)
                ]

            # Two steps a round: with 12 multiplications alone, what a loop costs itself shows.
            def add_two(pair: Any, sums: Sequence[Any]) -> list[Any]:
                k = builder.shl(pair, one)
                return add(builder.or_(k, one), add(k, sums))

            def add_last(_: Any, sums: Sequence[Any]) -> list[Any]:
                return add(builder.sub(count, one), sums)

            sums = code.loop(builder.ashr(count, one), sums, add_two)
            return code.loop(builder.and_(count, one), sums, add_last)

        for i, total in enumerate(code.loop(parts, [code.zero] * height, add_part)):
            start = code.load(addend, builder.mul(addend_row, code.integer(i)))
            place = builder.mul(out_row, code.integer(i))
            code.store(builder.fadd(total, start), out, place)

    code.choose(rows, range(1, tallest() + 1), tile)


@emitted
def transpose(
    builder: Any, like: Any, source: Any, source_row: Any, target: Any, target_row: Any
) -> None:
    """Transpose a square of numbers between two addresses, as wide as a vector of `like`."""
    code = _Vectors(builder, like, 32)
    source, target = code.pointer(source), code.pointer(target)
    side, quarter = code.lanes, code.lanes // 2
    for top, left in product((0, side), repeat=2):
        rows = [
            code.load(
                source,
                builder.add(builder.mul(source_row, code.integer(top + i)), code.integer(left)),
            )
            for i in range(side)
        ]
        # Each round swaps the blocks beside the diagonal, of half the size of the round before.
        width = quarter
        while width:
            rows = code.swapped(rows, width)
            width //= 2
        for i, line in enumerate(rows):
            place = builder.add(builder.mul(target_row, code.integer(left + i)), code.integer(top))
            code.store(line, target, place)


@emitted
def midpoints(builder: Any, a: Any, b: Any, count: Any, out: Any) -> None:
    """Write (a + b) / 2 for `count` numbers at the addresses a and b to the array `out`."""
    code = _Vectors(builder, out)
    half = code.constant(0.5)
    a, b = code.pointer(a), code.pointer(b)
    lanes = code.integer(code.lanes)
    whole = builder.sdiv(count, lanes)

    def middle(i: Any, _: Sequence[Any]) -> list[Any]:
        place = builder.mul(i, lanes)
        code.store(
            builder.fmul(half, builder.fadd(code.load(a, place), code.load(b, place))), out, place
        )
        return []

    code.loop(whole, [], middle)
    done = builder.mul(whole, lanes)

    def rest(i: Any, _: Sequence[Any]) -> list[Any]:
        place = builder.add(done, i)
        total = builder.fadd(code.scalar(a, place), code.scalar(b, place))
        builder.store(builder.fmul(code.number(0.5), total), code.at(out, place))
        return []

    code.loop(builder.sub(count, done), [], rest)


@emitted
def lane_sums(builder: Any, vectors: Any, count: Any, out: Any) -> None:
    """Write the sum of each of `count` vectors to `out`."""
    code = _Vectors(builder, vectors)

    def add(i: Any, _: Sequence[Any]) -> list[Any]:
        total = code.sum(code.load(vectors, builder.mul(i, code.integer(code.lanes))))
        builder.store(total, code.at(out, i))
        return []

    code.loop(count, [], add)


class _Vectors:
    """Writes code for vectors of the numbers that a pointer points to."""

    def __init__(self, builder: Any, pointer: Any, size: int = VECTOR_BYTES) -> None:
        from llvmlite import ir

        self.builder = builder
        self.element = pointer.type.pointee
        self.bytes = 4 if isinstance(self.element, ir.FloatType) else 8
        self.lanes = size // self.bytes
        self.type = ir.VectorType(pointer.type.pointee, self.lanes)
        self.integer = ir.IntType(64)
        self.zero = ir.Constant(self.type, None)
        self.unset = ir.Constant(self.type, ir.Undefined)
        self.first = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)

    def pointer(self, address: Any) -> Any:
        """Return the pointer to numbers at an address."""
        return self.builder.inttoptr(address, self.element.as_pointer())

    def number(self, value: float) -> Any:
        from llvmlite import ir

        return ir.Constant(self.element, value)

    def constant(self, value: float) -> Any:
        """Return a vector filled with a constant."""
        from llvmlite import ir

        return ir.Constant(self.type, [value] * self.lanes)

    def swapped(self, rows: Sequence[Any], width: int) -> list[Any]:
        """Swap the upper right and lower left `width` columns of each `2 * width` rows."""
        from llvmlite import ir

        lanes, swapped = range(self.lanes), list(rows)
        # Lanes of the second operand of a shuffle count on from those of the first.
        upper = [i if not i & width else i - width + self.lanes for i in lanes]
        lower = [i + width if not i & width else i + self.lanes for i in lanes]
        places = ir.VectorType(ir.IntType(32), self.lanes)
        for i in lanes:
            if not i & width:
                pair = rows[i], rows[i + width]
                for j, order in ((i, upper), (i + width, lower)):
                    swapped[j] = self.builder.shuffle_vector(*pair, ir.Constant(places, order))
        return swapped

    def at(self, pointer: Any, index: Any) -> Any:
        index = self.integer(index) if isinstance(index, int) else index
        return self.builder.gep(pointer, [index])

    def scalar(self, pointer: Any, index: Any) -> Any:
        return self.builder.load(self.at(pointer, index))

    def load(self, pointer: Any, index: Any) -> Any:
        return self.builder.load(self._vector(pointer, index), align=self.bytes)

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        self.builder.store(vector, self._vector(pointer, index), align=self.bytes)

    def splat(self, pointer: Any, index: Any) -> Any:
        """Return a vector filled with one number."""
        number = self.scalar(pointer, index)
        vector = self.builder.insert_element(self.unset, number, self.integer(0))
        return self.builder.shuffle_vector(vector, self.unset, self.first)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        flags = ("contract",)  # one rounding where the machine has such an instruction
        return self.builder.fadd(self.builder.fmul(a, b, flags=flags), total, flags=flags)

    def sum(self, vector: Any) -> Any:
        """Return the sum of a vector's numbers, taken by halves."""
        from llvmlite import ir

        while vector.type.count > 1:
            half = vector.type.count // 2
            places = ir.VectorType(ir.IntType(32), half)
            low, high = (
                self.builder.shuffle_vector(vector, vector, ir.Constant(places, list(part)))
                for part in (range(half), range(half, 2 * half))
            )
            vector = self.builder.fadd(low, high)
        return self.builder.extract_element(vector, self.integer(0))

    def loop(
        self, count: Any, initial: Sequence[Any], body: Callable[[Any, Sequence[Any]], list[Any]]
    ) -> list[Any]:
        """Return `values` after values = body(i, values) for all i < count."""
        builder, before = self.builder, self.builder.block
        head, inside, after = map(builder.append_basic_block, ("head", "inside", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        i, *values = (builder.phi(value.type) for value in (count, *initial))
        builder.cbranch(builder.icmp_signed("<", i, count), inside, after)
        builder.position_at_end(inside)
        following = builder.add(i, self.integer(1)), *body(i, values)
        for phi, first, later in zip((i, *values), (self.integer(0), *initial), following):
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return values

    def choose(self, value: Any, cases: Iterable[int], write: Callable[[int], None]) -> None:
        """Branch on `value` to the code that `write` writes for each case."""
        after = self.builder.append_basic_block("after")
        switch = self.builder.switch(value, after)
        for case in cases:
            block = self.builder.append_basic_block(f"case_{case}")
            switch.add_case(case, block)
            self.builder.position_at_end(block)
            write(case)
            self.builder.branch(after)
        self.builder.position_at_end(after)

    def _vector(self, pointer: Any, index: Any) -> Any:
        return self.builder.bitcast(self.at(pointer, index), self.type.as_pointer())
