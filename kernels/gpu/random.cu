// Random numbers as a function of a key and of an element's index.

#include "grid.cuh"
#include "number.cuh"
#include "philox.cuh"

// Four to a thread. A float32 on [0, 1) holds the upper 24 bits of a word.
extern "C" __global__ void uniform(real* out, int64 count, Key given) {
    uint64 key = given.get();
    FOR_ELEMENTS(block, (count + 3) / 4) {
        Philox random = {{(uint32)block, (uint32)(block >> 32), 0, 0}};
        random.scramble(key);
        for (int i = 0; i < 4 && 4 * block + i < count; ++i) {
            out[4 * block + i] = (random.words[i] >> 8) * real(0x1p-24);
        }
    }
}
