// Philox4x32 of ten rounds: random numbers as a function of a counter and a key, without a state.
//
// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.

#pragma once

#include "grid.cuh"

using uint32 = unsigned int;
using uint64 = unsigned long long;

// Four words: a counter before, random bits after.
struct Philox {
    uint32 words[4];

    // The key has two words, the lower one first.
    __device__ void scramble(uint64 key) {
        uint32 low = (uint32)key, high = (uint32)(key >> 32);
        for (int round = 0; round < 10; ++round) {
            uint64 first = (uint64)0xD2511F53 * words[0], second = (uint64)0xCD9E8D57 * words[2];
            words[0] = (uint32)(second >> 32) ^ words[1] ^ low;
            words[1] = (uint32)second;
            words[2] = (uint32)(first >> 32) ^ words[3] ^ high;
            words[3] = (uint32)first;
            low += 0x9E3779B9;   // the golden ratio
            high += 0xBB67AE85;  // the square root of 3, less 1
        }
    }
};
