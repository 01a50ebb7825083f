"""The innermost loops of convolution: sums of products that stay in the vector registers.

Each step of a loop multiplies each of FILTERS factors by each of up to `widest()` runs of numbers,
and adds every product to a sum of its own. LLVM does not find that form in loops over arrays, so it
is written out here in LLVM code, vector by vector, and inlined into the kernels that call it.

A vector has VECTOR_BYTES bytes on every machine; LLVM splits it if registers are shorter.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from .jit import emitted

__all__ = ["FILTERS", "VECTOR_BYTES", "summed_products", "weighted_sums", "widest"]

VECTOR_BYTES = 64

FILTERS = 4


@functools.cache
def widest() -> int:
    """Return how many vectors FILTERS factors can multiply with all sums in registers.

    AVX-512 has 32 registers of one vector: 24 sums, 6 vectors and a factor fill 31. On other
    machines a vector takes two of 16 registers, or four of 32.
    """
    from llvmlite.binding import get_host_cpu_features

    return 6 if get_host_cpu_features().get("avx512f") else 1


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
    code = _Vectors(builder, planes)

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
    code = _Vectors(builder, grads)
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


class _Vectors:
    """Writes code for vectors of the numbers that a pointer points to."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        from llvmlite import ir

        self.builder = builder
        self.bytes = 4 if isinstance(pointer.type.pointee, ir.FloatType) else 8
        self.lanes = VECTOR_BYTES // self.bytes
        self.type = ir.VectorType(pointer.type.pointee, self.lanes)
        self.integer = ir.IntType(64)
        self.zero = ir.Constant(self.type, None)
        self.unset = ir.Constant(self.type, ir.Undefined)
        self.first = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)

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
