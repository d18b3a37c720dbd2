// What the words of cuda/distill.cuh mean where kernels are compiled for the host, to be run by the emulated driver.
#pragma once
#include "driver.h"

#define DEVICE static inline __attribute__((always_inline))
#define DEVICE_MEMBER

#define CONSTANT static const

// In a section of its own, so that each block can begin with shared memory that nobody has written.
#define SHARED static __attribute__((section("device_shared")))

// A kernel makes itself known to the driver.
#define KERNEL(name, Arguments)                                                                                             \
    static void name(Arguments given);                                                                                      \
    static const Kernel name##_kernel(#name, sizeof(Arguments), [](const void *given) { name(*(const Arguments *)given); }); \
    static void name(Arguments given)

DEVICE unsigned threadIndex() { return place().thread; }
DEVICE unsigned blockIndex() { return place().block; }
DEVICE unsigned threads() { return place().threads; }
DEVICE void barrier() { waitForBlock(); }
DEVICE float squareRoot(float x) { return __builtin_sqrtf(x); }
DEVICE double squareRoot(double x) { return __builtin_sqrt(x); }

DEVICE float shuffleXor(float value, int mask) {
    return __builtin_bit_cast(float, exchange(__builtin_bit_cast(unsigned, value), (place().thread % 32) ^ mask));
}
