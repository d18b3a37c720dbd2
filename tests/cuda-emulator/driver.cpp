// A CUDA driver without a GPU: the functions of libcuda.so.1 that Distill calls, over kernels that were compiled for the host.
//
// A block's threads are fibres of one thread, run in an order that a seed shuffles, so that a barrier that is missing shows. Shared
// and device memory begin as NaN. Device memory ends at a page that nobody may touch, and is out of reach while no kernel runs.
#include "driver.h"

#include <algorithm>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default"))) int

namespace {

// As cuda.h has them.
enum Result {
    Success = 0,
    InvalidValue = 1,
    OutOfMemory = 2,
    InvalidImage = 200,
    InvalidContext = 201,
    IllegalState = 401,
    NotFound = 500,
    IllegalAddress = 700,
    LaunchFailed = 719,
    CaptureUnsupported = 900,
    CaptureInvalidated = 901,
    CaptureImplicit = 906,
};

constexpr size_t PageBytes = 4096, StackBytes = 256 << 10;
constexpr unsigned WarpWidth = 32, MostThreads = 1024;

std::recursive_mutex gate;
const Kernel *kernels;
int lasting = Success;

// What the emulated machine has; tests change it.
struct {
    size_t memory = size_t(8) << 30;
    size_t version = 12000;
    size_t capability = 70;
    size_t seed = 0;
} machine;

// Memory

struct Allocation {
    char *pages;
    size_t pagesBytes, bytes;
};

std::map<uintptr_t, Allocation> allocations;
size_t allocated;

void allow(bool touching) {
    for (auto &[_, memory] : allocations)
        mprotect(memory.pages, memory.pagesBytes, touching ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// Whether these bytes are within one allocation.
bool within(uintptr_t address, size_t bytes) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin())
        return false;
    auto &[start, memory] = *--next;
    return address >= start && address + bytes <= start + memory.bytes;
}

// Fibres

enum class Waits { Nothing, ForBlock, ForWarp, Ended };

struct Fibre {
    // Where it begins, and where it waits: jumps are as good as switches of contexts, and make no calls of the system.
    ucontext_t beginning;
    jmp_buf waiting;
    bool begun = false;
    Place place;
    Waits waits = Waits::Ended;
    unsigned word;
};

std::vector<Fibre *> fibres;
jmp_buf scheduler;
Fibre *current;
const Kernel *running;
const void *arguments;
std::vector<unsigned> unstarted;
std::mt19937_64 orders;
sigjmp_buf escape;
volatile bool launching;
thread_local bool mine;
struct sigaction before;

extern "C" char __start_device_shared[] __attribute__((weak));
extern "C" char __stop_device_shared[] __attribute__((weak));

void give(Waits waits) {
    current->waits = waits;
    if (!_setjmp(current->waiting))
        _longjmp(scheduler, 1);
}

// A fibre runs one thread after another until one has to wait, which keeps it.
void live() {
    for (;;) {
        while (!unstarted.empty()) {
            current->place.thread = unstarted.back();
            unstarted.pop_back();
            running->run(arguments);
        }
        give(Waits::Ended);
    }
}

Fibre *make() {
    auto fibre = new Fibre;
    getcontext(&fibre->beginning);
    fibre->beginning.uc_stack.ss_sp = mmap(nullptr, StackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fibre->beginning.uc_stack.ss_size = StackBytes;
    makecontext(&fibre->beginning, live, 0);
    return fibre;
}

void resume(Fibre *fibre) {
    fibre->waits = Waits::Nothing;
    current = fibre;
    if (_setjmp(scheduler))
        return;
    if (fibre->begun)
        _longjmp(fibre->waiting, 1);
    fibre->begun = true;
    setcontext(&fibre->beginning);
}

[[noreturn]] void fail(const char *how) {
    fprintf(stderr, "CUDA emulator: %s: %s (block %u, thread %u)\n", running->name, how, current->place.block, current->place.thread);
    siglongjmp(escape, IllegalAddress);
}

void touched(int signal, siginfo_t *info, void *context) {
    if (launching && mine)
        fail("memory that is not its own was touched");
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(signal, info, context);
    else
        before.sa_handler(signal);
}

// Runs all threads of a block; which wait for what is looked at when none can go on.
int runBlock(Place start) {
    if (__start_device_shared)
        memset(__start_device_shared, 0xff, __stop_device_shared - __start_device_shared);
    unstarted.resize(start.threads);
    std::iota(unstarted.begin(), unstarted.end(), 0);
    std::shuffle(unstarted.begin(), unstarted.end(), orders);
    std::vector<Fibre *> waiting;
    size_t used = 0;
    while (!unstarted.empty()) {
        if (used == fibres.size())
            fibres.push_back(make());
        auto fibre = fibres[used];
        fibre->place = start;
        resume(fibre);
        if (fibre->waits != Waits::Ended) {
            waiting.push_back(fibre);
            used++;
        }
    }
    bool ended = waiting.size() < start.threads;
    while (!waiting.empty()) {
        std::vector<Fibre *> ready;
        unsigned ofWarp[MostThreads / WarpWidth] = {}, forWarp[MostThreads / WarpWidth] = {}, forBlock = 0;
        for (auto fibre : waiting) {
            auto warp = fibre->place.thread / WarpWidth;
            ofWarp[warp]++;
            forWarp[warp] += fibre->waits == Waits::ForWarp;
            forBlock += fibre->waits == Waits::ForBlock;
        }
        for (auto fibre : waiting) {
            auto warp = fibre->place.thread / WarpWidth;
            auto lanes = std::min(WarpWidth, start.threads - warp * WarpWidth);
            if (forWarp[warp] == lanes && ofWarp[warp] == lanes)
                ready.push_back(fibre);
        }
        if (ready.empty() && forBlock == waiting.size() && !ended)
            ready = waiting;
        if (ready.empty()) {
            fprintf(stderr, "CUDA emulator: %s: threads of block %u wait for others that do not come\n", running->name, start.block);
            return LaunchFailed;
        }
        std::shuffle(ready.begin(), ready.end(), orders);
        for (auto fibre : ready)
            resume(fibre);
        auto last = std::remove_if(waiting.begin(), waiting.end(), [](Fibre *fibre) { return fibre->waits == Waits::Ended; });
        ended |= last != waiting.end();
        waiting.erase(last, waiting.end());
    }
    return Success;
}

int runBlocks(unsigned blocks, unsigned threads) {
    // Fibres of a launch that was left by a fault are in no known state.
    if (int fault = sigsetjmp(escape, 1)) {
        fibres.clear();
        return fault;
    }
    std::vector<unsigned> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), orders);
    for (auto block : order)
        if (int failure = runBlock({0, threads, block}))
            return failure;
    return Success;
}

int launch(const Kernel *kernel, unsigned blocks, unsigned threads, const void *given) {
    running = kernel;
    arguments = given;
    orders.seed(machine.seed);
    allow(true);
    struct sigaction handler = {};
    handler.sa_sigaction = touched;
    handler.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &handler, &before);
    launching = mine = true;
    int result = runBlocks(blocks, threads);
    launching = mine = false;
    sigaction(SIGSEGV, &before, nullptr);
    allow(false);
    return result;
}

// Graphs

// A launch with its arguments, or, without a kernel, words that are set.
struct Node {
    const Kernel *kernel;
    unsigned blocks, threads;
    std::vector<char> given;
    uintptr_t to;
    unsigned value;
    size_t count;
};

typedef std::vector<Node> Graph;

struct Stream {
    bool blocking;
    // Until its end what is started there is taken down, not done.
    bool capturing = false, invalid = false;
    Graph graph;
};

std::set<Stream *> streams;
thread_local Stream *capturingHere;

// What a thread that makes a graph must not do meanwhile.
int unlessCapturing() {
    if (!capturingHere)
        return Success;
    capturingHere->invalid = true;
    return CaptureUnsupported;
}

// The default stream waits for all that block, which is not possible while one makes a graph.
int unlessImplicit() {
    for (auto stream : streams)
        if (stream->capturing && stream->blocking) {
            stream->invalid = true;
            return CaptureImplicit;
        }
    return Success;
}

int set(uintptr_t to, unsigned value, size_t count) {
    if (!within(to, count * sizeof value))
        return InvalidValue;
    allow(true);
    std::fill_n((unsigned *)to, count, value);
    allow(false);
    return Success;
}

// Does it, or takes it down.
int start(Node node, void *given) {
    if (lasting)
        return lasting;
    auto stream = (Stream *)given;
    if (stream && !streams.contains(stream))
        return InvalidValue;
    if (!stream)
        if (int error = unlessImplicit())
            return error;
    if (stream && stream->capturing) {
        stream->graph.push_back(std::move(node));
        return Success;
    }
    return node.kernel ? lasting = launch(node.kernel, node.blocks, node.threads, node.given.data()) : set(node.to, node.value, node.count);
}

// A module is the text that Distill gives: only what is an entry there can be found.
struct Module {
    std::string text;
};

} // namespace

Kernel::Kernel(const char *name, unsigned long bytes, void (*run)(const void *)) : name(name), bytes(bytes), run(run), next(kernels) {
    kernels = this;
}

const Place &place() { return current->place; }

void waitForBlock() { give(Waits::ForBlock); }

unsigned exchange(unsigned word, unsigned from) {
    static unsigned words[MostThreads];
    auto thread = current->place.thread;
    words[thread] = word;
    give(Waits::ForWarp);
    auto result = words[thread / WarpWidth * WarpWidth + from];
    give(Waits::ForWarp);
    return result;
}

// For tests: memory (bytes), version (12000 is 12.0), capability (70 is 7.0) or seed of the order of threads.
API emulate(const char *what, size_t value) {
    const std::pair<const char *, size_t *> settings[] = {
        {"memory", &machine.memory}, {"version", &machine.version}, {"capability", &machine.capability}, {"seed", &machine.seed}};
    for (auto [name, setting] : settings)
        if (!strcmp(name, what)) {
            *setting = value;
            return Success;
        }
    return NotFound;
}

// The driver's functions

API cuInit(unsigned) { return Success; }

API cuDriverGetVersion(int *version) {
    *version = (int)machine.version;
    return Success;
}

API cuDeviceGetCount(int *count) {
    *count = 1;
    return Success;
}

API cuDeviceGet(int *device, int) {
    *device = 0;
    return Success;
}

API cuDeviceGetName(char *name, int length, int) {
    snprintf(name, length, "emulated device");
    return Success;
}

API cuDeviceGetAttribute(int *value, int attribute, int) {
    constexpr int Multiprocessors = 16, Threads = 39, Major = 75, Minor = 76;
    int capability = (int)machine.capability;
    *value = attribute == Multiprocessors ? 2 : attribute == Threads ? 2048 : attribute == Major ? capability / 10 : attribute == Minor ? capability % 10 : 0;
    return Success;
}

// How often the context is held.
static int holders;

API cuDevicePrimaryCtxRetain(void **context, int) {
    holders++;
    *context = &allocations;
    return Success;
}

// Ends what went wrong, too; and with the last holder goes the memory.
API cuDevicePrimaryCtxRelease_v2(int) {
    std::lock_guard lock(gate);
    lasting = Success;
    if (--holders > 0)
        return Success;
    for (auto &[_, memory] : allocations)
        munmap(memory.pages, memory.pagesBytes + PageBytes);
    allocations.clear();
    allocated = 0;
    return Success;
}

API cuCtxSetCurrent(void *) { return Success; }

API cuCtxSynchronize() {
    int error = unlessCapturing();
    return error ? error : lasting;
}

API cuModuleLoadData(void **module, const void *image) {
    if (strncmp((const char *)image, "//", 2) != 0)
        return InvalidImage;
    *module = new Module{(const char *)image};
    return Success;
}

API cuModuleUnload(void *module) {
    delete (Module *)module;
    return Success;
}

API cuModuleGetFunction(void **function, void *module, const char *name) {
    if (((Module *)module)->text.find(".entry " + std::string(name) + "(") == std::string::npos)
        return NotFound;
    for (auto kernel = kernels; kernel; kernel = kernel->next)
        if (!strcmp(kernel->name, name)) {
            *function = (void *)kernel;
            return Success;
        }
    return NotFound;
}

API cuMemGetInfo_v2(size_t *free, size_t *total) {
    std::lock_guard lock(gate);
    *total = machine.memory;
    *free = *total - allocated;
    return Success;
}

API cuMemAlloc_v2(uintptr_t *address, size_t bytes) {
    std::lock_guard lock(gate);
    if (lasting)
        return lasting;
    if (int error = unlessCapturing())
        return error;
    if (bytes == 0)
        return InvalidValue;
    if (allocated + bytes > machine.memory)
        return OutOfMemory;
    auto aligned = (bytes + 15) / 16 * 16;
    auto pagesBytes = (aligned + PageBytes - 1) / PageBytes * PageBytes;
    auto pages = (char *)mmap(nullptr, pagesBytes + PageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return OutOfMemory;
    mprotect(pages, pagesBytes, PROT_READ | PROT_WRITE);
    memset(pages, 0xff, pagesBytes);
    mprotect(pages, pagesBytes, PROT_NONE);
    *address = (uintptr_t)(pages + pagesBytes - aligned);
    allocations[*address] = {pages, pagesBytes, bytes};
    allocated += bytes;
    return Success;
}

API cuMemFree_v2(uintptr_t address) {
    std::lock_guard lock(gate);
    if (int error = unlessCapturing())
        return error;
    auto found = allocations.find(address);
    if (found == allocations.end())
        return InvalidValue;
    munmap(found->second.pages, found->second.pagesBytes + PageBytes);
    allocated -= found->second.bytes;
    allocations.erase(found);
    return Success;
}

API cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t bytes) {
    std::lock_guard lock(gate);
    if (lasting || !within(to, bytes))
        return lasting ? lasting : InvalidValue;
    if (int error = unlessImplicit())
        return error;
    allow(true);
    memcpy((void *)to, from, bytes);
    allow(false);
    return Success;
}

API cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t bytes) {
    std::lock_guard lock(gate);
    if (lasting || !within(from, bytes))
        return lasting ? lasting : InvalidValue;
    if (int error = unlessImplicit())
        return error;
    allow(true);
    memcpy(to, (void *)from, bytes);
    allow(false);
    return Success;
}

API cuMemcpyDtoD_v2(uintptr_t to, uintptr_t from, size_t bytes) {
    std::lock_guard lock(gate);
    if (lasting || !within(to, bytes) || !within(from, bytes))
        return lasting ? lasting : InvalidValue;
    if (int error = unlessImplicit())
        return error;
    allow(true);
    memmove((void *)to, (void *)from, bytes);
    allow(false);
    return Success;
}

API cuMemsetD32Async(uintptr_t to, unsigned value, size_t count, void *stream) {
    std::lock_guard lock(gate);
    return start({nullptr, 0, 0, {}, to, value, count}, stream);
}

API cuLaunchKernel(
    void *function, unsigned blocksX, unsigned blocksY, unsigned blocksZ, unsigned threadsX, unsigned threadsY, unsigned threadsZ,
    unsigned, void *stream, void **given, void **
) {
    std::lock_guard lock(gate);
    if (blocksY * blocksZ * threadsY * threadsZ != 1 || blocksX == 0 || threadsX == 0 || threadsX > MostThreads)
        return lasting ? lasting : InvalidValue;
    auto kernel = (const Kernel *)function;
    auto bytes = (const char *)given[0];
    return start({kernel, blocksX, threadsX, {bytes, bytes + kernel->bytes}, 0, 0, 0}, stream);
}

API cuStreamCreate(void **stream, unsigned flags) {
    std::lock_guard lock(gate);
    constexpr unsigned NonBlocking = 1;
    *stream = *streams.insert(new Stream{!(flags & NonBlocking)}).first;
    return Success;
}

API cuStreamDestroy_v2(void *stream) {
    std::lock_guard lock(gate);
    if (capturingHere == stream)
        capturingHere = nullptr;
    streams.erase((Stream *)stream);
    delete (Stream *)stream;
    return Success;
}

API cuStreamBeginCapture_v2(void *given, int mode) {
    std::lock_guard lock(gate);
    constexpr int OfThisThread = 1;
    auto stream = (Stream *)given;
    if (!stream)
        return CaptureUnsupported;
    // Distill knows no other mode.
    if (mode != OfThisThread || stream->capturing)
        return mode != OfThisThread ? InvalidValue : IllegalState;
    stream->capturing = true;
    stream->invalid = false;
    stream->graph.clear();
    capturingHere = stream;
    return Success;
}

API cuStreamEndCapture(void *given, Graph **graph) {
    std::lock_guard lock(gate);
    auto stream = (Stream *)given;
    *graph = nullptr;
    if (!stream->capturing)
        return IllegalState;
    stream->capturing = false;
    capturingHere = nullptr;
    if (stream->invalid)
        return CaptureInvalidated;
    *graph = new Graph(std::move(stream->graph));
    return Success;
}

API cuGraphInstantiate_v2(Graph **executable, const Graph *graph, void *, char *, size_t) {
    *executable = new Graph(*graph);
    return Success;
}

API cuGraphLaunch(const Graph *executable, void *stream) {
    std::lock_guard lock(gate);
    for (auto &node : *executable)
        if (int error = start(node, stream))
            return error;
    return lasting;
}

API cuGraphExecDestroy(Graph *executable) {
    delete executable;
    return Success;
}

API cuGraphDestroy(Graph *graph) {
    delete graph;
    return Success;
}

API cuFuncGetAttribute(int *value, int, void *) {
    *value = 32;
    return Success;
}

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int threads, size_t) {
    *blocks = 2048 / threads;
    return Success;
}

// Kernels are done when they were started, so that an event is a moment.
typedef std::chrono::steady_clock::time_point Moment;

API cuEventCreate(void **event, unsigned) {
    *event = new Moment;
    return Success;
}

API cuEventRecord(void *event, void *) {
    *(Moment *)event = std::chrono::steady_clock::now();
    return lasting;
}

API cuEventSynchronize(void *) { return lasting; }

API cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    *milliseconds = std::chrono::duration<float, std::milli>(*(Moment *)end - *(Moment *)start).count();
    return Success;
}

API cuEventDestroy_v2(void *event) {
    delete (Moment *)event;
    return Success;
}

API cuGetErrorString(int error, const char **text) {
    *text = error == OutOfMemory        ? "out of memory"
            : error == IllegalAddress   ? "an illegal memory access was encountered"
            : error == LaunchFailed     ? "unspecified launch failure"
            : error == NotFound         ? "named symbol not found"
            : error == InvalidImage     ? "device kernel image is invalid"
            : error == InvalidValue     ? "invalid argument"
            : error == CaptureUnsupported
                ? "operation not permitted when stream is capturing"
            : error == CaptureInvalidated
                ? "operation failed due to a previous error during capture"
            : error == CaptureImplicit
                ? "operation would make the legacy stream depend on a capturing blocking stream"
                                        : "unknown error";
    return Success;
}
