// What kernels that run on the host need of the emulated driver.
#pragma once

struct Kernel {
    const char *name;
    unsigned long bytes;
    void (*run)(const void *arguments);
    const Kernel *next;

    Kernel(const char *name, unsigned long bytes, void (*run)(const void *));
};

// Where the thread that runs is.
struct Place {
    unsigned thread, threads, block;
};

const Place &place();

// Waits for all threads of the block, or exchanges a word with those of the warp.
void waitForBlock();
unsigned exchange(unsigned word, unsigned from);
