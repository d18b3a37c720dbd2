// What the kernels are written in: CUDA C++ without a toolkit. clang compiles them for the device; the emulated driver of the tests
// (tests/cuda-emulator) compiles the same text for the host, where these words mean what host.cuh says.
#pragma once

#ifdef __CUDA__

// Each kernel has one argument, a record, which a program fills in the same layout.
#define KERNEL(name, Arguments) extern "C" __attribute__((global)) void name(Arguments given)
#define DEVICE static inline __attribute__((device, always_inline))
#define DEVICE_MEMBER __attribute__((device))
#define SHARED static __attribute__((device, shared))
#define CONSTANT static __attribute__((constant)) const

DEVICE unsigned threadIndex() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE unsigned blockIndex() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE unsigned threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE void barrier() { __syncthreads(); }
DEVICE float squareRoot(float x) { return __nvvm_sqrt_rn_f(x); }
DEVICE double squareRoot(double x) { return __nvvm_sqrt_rn_d(x); }
DEVICE float shuffleXor(float value, int mask) { return __nvvm_shfl_sync_bfly_f32(-1, value, mask, 31); }

#else

#include "host.cuh"

#endif

typedef unsigned long long ulong;

// A kernel of a step of a rollout: blocks of 128 threads, each thread an environment. rollout.cu does many steps of such kernels, and
// says which: so many ahead of the one in the record.
#define STEP_KERNEL(name, Arguments)                            \
    DEVICE void name##_step(const Arguments &given, int ahead); \
    KERNEL(name, Arguments) { name##_step(given, 0); }          \
    DEVICE void name##_step(const Arguments &given, int ahead)

// Numbers of a panel: 32 samples side by side, [features, 32]; a warp is a panel, and a thread is a lane of it.
constexpr int PanelWidth = 32;

// The index of this thread among all, which is that of the environment or row that it works on.
DEVICE unsigned globalIndex() { return blockIndex() * threads() + threadIndex(); }

// One lane of a panel.
struct Lane {
    float *at;
    __attribute__((always_inline)) DEVICE_MEMBER float &operator[](int row) const { return at[row * PanelWidth]; }
};

// The lane of a sample in panels of so many features that lie one after another.
DEVICE Lane laneOf(float *panels, unsigned sample, int features) {
    return {panels + (ulong)(sample / PanelWidth) * features * PanelWidth + sample % PanelWidth};
}

// As the processor's instructions: where one is not a number, the result is the second.
DEVICE float least(float a, float b) { return a < b ? a : b; }
DEVICE float most(float a, float b) { return a > b ? a : b; }
DEVICE float clamp(float value, float low, float high) { return least(most(value, low), high); }
DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEVICE float absolute(float x) { return __builtin_fabsf(x); }
DEVICE float asFloat(unsigned bits) { return __builtin_bit_cast(float, bits); }
DEVICE double asDouble(ulong bits) { return __builtin_bit_cast(double, bits); }
DEVICE ulong asBits(double x) { return __builtin_bit_cast(ulong, x); }
DEVICE unsigned asBits(float x) { return __builtin_bit_cast(unsigned, x); }
