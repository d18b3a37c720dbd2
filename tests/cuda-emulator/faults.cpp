// Does the emulator catch what goes wrong on a GPU? Runs a kernel that is right or has the fault that the argument names, for several
// orders of threads, and prints "caught" or the sums.
#include "../../cuda/distill.cuh"
#include <cstdint>
#include <cstdio>
#include <cstring>

extern "C" int cuModuleLoadData(void **, const void *);
extern "C" int cuModuleGetFunction(void **, void *, const char *);
extern "C" int cuMemAlloc_v2(uintptr_t *, size_t);
extern "C" int cuMemcpyHtoD_v2(uintptr_t, const void *, size_t);
extern "C" int cuMemcpyDtoH_v2(void *, uintptr_t, size_t);
extern "C" int cuDevicePrimaryCtxRelease_v2(int);
extern "C" int cuLaunchKernel(
    void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
extern "C" int emulate(const char *, size_t);

constexpr int Threads = 64, Blocks = 3, Count = Threads * Blocks;

enum Fault : int { Right, NoBarrier, PastTheEnd, BeforeTheStart, Race, SomeDoNotCome, WarpSum };

struct SumArguments {
    float *values;
    float *sums;
    Fault fault;
};

// The sum of each block's numbers, by a tree in shared memory.
KERNEL(sum, SumArguments) {
    SHARED float shared[Threads];
    auto mine = threadIndex();
    if (given.fault == Race) {
        if (mine == 0)
            given.sums[blockIndex()] = 0.0f;
        barrier();
        float before = given.sums[blockIndex()];
        barrier();
        given.sums[blockIndex()] = before + given.values[globalIndex()];
        return;
    }
    if (given.fault == WarpSum) {
        float value = given.values[globalIndex()];
        for (int mask = 16; mask > 0; mask /= 2)
            value += shuffleXor(value, mask);
        shared[mine] = value;
        barrier();
        if (mine == 0)
            given.sums[blockIndex()] = shared[0] + shared[32];
        return;
    }
    shared[mine] = given.values[globalIndex()];
    if (given.fault == SomeDoNotCome && mine == 5)
        return;
    for (unsigned half = Threads / 2; half > 0; half /= 2) {
        if (given.fault != NoBarrier)
            barrier();
        if (mine < half)
            shared[mine] += shared[mine + half];
    }
    if (mine == 0)
        given.sums[blockIndex() + (given.fault == PastTheEnd && blockIndex() == Blocks - 1 ? 2 : 0)] = shared[0];
    if (mine == 0 && given.fault == BeforeTheStart)
        given.sums[-4096] = 0.0f;
}

int main(int count, char **words) {
    const char *names[] = {"right", "no barrier", "past the end", "before the start", "race", "some do not come", "warp sum"};
    int fault = 0;
    while (fault < 7 && strcmp(names[fault], words[count - 1]))
        fault++;
    void *module, *kernel;
    uintptr_t values, sums;
    cuModuleLoadData(&module, "// .entry sum(");
    cuModuleGetFunction(&kernel, module, "sum");
    // Four sums, so that the end of what is allocated is a page's end.
    cuMemAlloc_v2(&values, Count * sizeof(float));
    cuMemAlloc_v2(&sums, 4 * sizeof(float));
    float numbers[Count];
    for (int i = 0; i < Count; i++)
        numbers[i] = (float)(i + 1);
    cuMemcpyHtoD_v2(values, numbers, sizeof numbers);
    for (int seed = 0; seed < 4; seed++) {
        emulate("seed", seed);
        SumArguments arguments = {(float *)values, (float *)sums, (Fault)fault};
        void *given[] = {&arguments};
        float found[Blocks];
        if (cuLaunchKernel(kernel, Blocks, 1, 1, Threads, 1, 1, 0, nullptr, given, nullptr)) {
            puts("caught");
            cuDevicePrimaryCtxRelease_v2(0);
            continue;
        }
        cuMemcpyDtoH_v2(found, sums, sizeof found);
        printf("%g %g %g\n", found[0], found[1], found[2]);
    }
}
