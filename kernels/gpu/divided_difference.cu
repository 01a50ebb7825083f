// Kernels of the divided differences of the elementary functions.

#include "divided_difference.cuh"
#include "elementwise.cuh"

DIVIDED_DIFFERENCE(absolute, divided_difference::absolute)
DIVIDED_DIFFERENCE(cos, divided_difference::cos)
DIVIDED_DIFFERENCE(exp, divided_difference::exp)
DIVIDED_DIFFERENCE(log, divided_difference::log)
DIVIDED_DIFFERENCE(log1p, divided_difference::log1p)
DIVIDED_DIFFERENCE_WITH_PARAMETER(power, divided_difference::power)
DIVIDED_DIFFERENCE(reciprocal, divided_difference::reciprocal)
DIVIDED_DIFFERENCE(sin, divided_difference::sin)
DIVIDED_DIFFERENCE(sqrt, divided_difference::sqrt)
DIVIDED_DIFFERENCE(square, divided_difference::square)
