/* Environments in a shared library: what Distill asks of one, in C.
 *
 * A library that has the functions below is loaded into Distill's process and is then an environment like any other: for
 * distillation, PPO, SAC and evaluation. It may be written in C (C99), C++ or anything else that makes C functions, such as Rust.
 * Begin with template.c, beside this file; pendulum.c is a whole example.
 *
 *     cc -O2 -shared -fPIC -o libpendulum.so pendulum.c -lm
 *     environment (Native.library "libpendulum.so" { envs = 4096 })
 *
 * One simulator holds many environments, numbered from 0, each with a world of its own.
 *
 * The order of calls. distill_describe, then distill_create. Each environment is reset before anything else is asked of it. Then,
 * again and again: some groups are observed, the environments step, the states that were reached may be observed, too, and every
 * environment whose episode ended is reset. So the library never restarts an episode by itself, and counts no steps: the limit of
 * an episode's steps is kept by Distill. distill_destroy ends it. There may be several simulators at once, such as one for training
 * and one for evaluation.
 *
 * Arrays. A row is an environment, [count, size]: the numbers of environment `first + i` begin at `i * size`, one after another, as
 * most simulators have them, and what an author writes for one environment is a loop away from many. Distill itself computes on 32
 * environments side by side, [size, 32], and turns rows into that: it costs less than a nanosecond a number, less than a simulator
 * that is written for one environment would lose by scattering its numbers. All numbers are floats; flags are 0 or 1.
 *
 * Threads. distill_reset, distill_observe, distill_step, distill_save and distill_load run on several threads at once, each time for
 * other environments of the same simulator. So what changes must belong to an environment: no global variables, no memory of the
 * simulator that two environments write. What all share, such as a model, is made by distill_create and only read afterwards.
 *
 * The same bits. An episode must be a function of (seed, environment, episode) and of the actions: then a run gives the same numbers
 * with any number of threads, and every policy is evaluated in the same episodes. Random numbers of distill_uniform and its like
 * are such functions; a generator that keeps a state belongs to an environment and is seeded in distill_reset.
 *
 * Errors. distill_describe and distill_create say what is wrong by giving NULL and by distill_error. The others cannot fail: a state
 * from which there is no way on is terminal, and a number that is not finite, or was not written, stops the run with a
 * sentence that names the environment and the step. An exception must not leave a function, and a crash ends the process. */

#ifndef DISTILL_ENVIRONMENT_H
#define DISTILL_ENVIRONMENT_H

#include <math.h>
#include <stdint.h>

/* Version of what stands here; it changes when a library must be built anew. */
#define DISTILL_ENVIRONMENT_VERSION 1

#if defined(_WIN32)
#define DISTILL_VISIBLE __declspec(dllexport)
#elif defined(__GNUC__)
#define DISTILL_VISIBLE __attribute__((visibility("default")))
#else
#define DISTILL_VISIBLE
#endif

#ifdef __cplusplus
#define DISTILL_FUNCTION extern "C" DISTILL_VISIBLE
#else
#define DISTILL_FUNCTION DISTILL_VISIBLE
#endif

/* What some numbers of an observation are. */
typedef struct distill_component {
    const char *name; /* with frame and unit: "position, world, m" */
    int32_t size;     /* how many numbers, at least 1 */
} distill_component;

/* A named view of the state. PPO's teachers read "teacher" and students read "student" unless told otherwise. */
typedef struct distill_group {
    const char *name;
    const distill_component *components; /* its numbers in order; a component without a name ends the list */
} distill_group;

/* How a measure of steps becomes that of an episode. */
enum {
    DISTILL_MEAN = 0,  /* the mean over the steps */
    DISTILL_FINAL = 1, /* the value after the last step, such as 1 where it succeeded */
    DISTILL_MAX = 2    /* the largest of the steps */
};

/* A number that every step has and that evaluations report of an episode, beside return and length. */
typedef struct distill_measure {
    const char *name; /* as the column of a table: "position_error" */
    const char *unit; /* "m"; NULL for a pure number */
    int32_t over;     /* DISTILL_MEAN, DISTILL_FINAL or DISTILL_MAX */
    int32_t higher_is_better; /* 1 for successes, 0 for errors */
} distill_measure;

/* What a library simulates. What is left 0 or NULL is not offered. */
typedef struct distill_facts {
    int32_t version;       /* DISTILL_ENVIRONMENT_VERSION */
    int32_t episode_limit; /* steps after which an episode is truncated, at least 1 */
    double step_seconds;   /* simulated seconds of one step */
    const char *name;      /* for messages and files: "pendulum" */

    const distill_group *groups; /* a group without a name ends the list */

    int32_t action_size;        /* continuous: numbers of an action; discrete: choices */
    int32_t action_is_discrete; /* 1: an action is one number, the index of the choice */
    const char *action_meaning; /* what the numbers do, with units and range: exported policies carry it; or NULL */

    const distill_measure *measures; /* a measure without a name ends the list; or NULL */

    /* Names of what the environments differ in, such as robots or tasks, and NULL: environment i is the one at i modulo their
     * number. Teachers, evaluations and sweeps go by them. NULL where all are alike. */
    const char *const *variants;

    /* Bytes in which distill_save keeps an environment; 0 where it is not offered. */
    int32_t state_bytes;
} distill_facts;

/* Says what is simulated; called before distill_create, and more than once.
 *
 * options: text that scripts give (`Native.options "model=humanoid.xml"`), "" where they give none. What it means is the library's.
 * Gives facts that stay as they are until the next call, or NULL. */
DISTILL_FUNCTION const distill_facts *distill_describe(const char *options);

/* Makes a simulator of so many environments, at least 1. The seed goes into everything random. Gives what the other functions get as
 * `simulator`, or NULL. */
DISTILL_FUNCTION void *distill_create(const char *options, int32_t envs, uint64_t seed);

/* Starts an episode in one environment. `episode` counts its episodes from 0: the same number starts the same episode. */
DISTILL_FUNCTION void distill_reset(void *simulator, int32_t environment, uint32_t episode);

/* Writes one group of the current states of the environments first .. first + count - 1. At most 32 at once, here and below.
 *
 * group: index in the facts' groups.
 * observations: [count, size of the group]. */
DISTILL_FUNCTION void distill_observe(void *simulator, int32_t first, int32_t count, int32_t group, float *observations);

/* Advances the environments first .. first + count - 1 by one step.
 *
 * actions: [count, action_size], as the policy gives them, so limits belong in here; or [count] indices of choices.
 * reward: [count].
 * terminated: [count], 0 before the call; 1 where the new state is terminal, such as a fall.
 * truncated: [count], 0 before the call; 1 where the episode must end though its state is not terminal. The end by episode_limit is not
 *     to be told.
 * measures: [count, measures], of the states reached; NULL where nobody asks. */
DISTILL_FUNCTION void distill_step(void *simulator, int32_t first, int32_t count, const float *actions, float *reward,
                                   float *terminated, float *truncated, float *measures);

/* Ends a simulator and frees what it holds. */
DISTILL_FUNCTION void distill_destroy(void *simulator);

/* What may be left out. */

/* Why distill_describe or distill_create gave NULL: a sentence. */
DISTILL_FUNCTION const char *distill_error(void);

/* Writes everything that an environment needs to go on, [state_bytes], and takes it back. With both, a run that was interrupted goes
 * on bit for bit; without, it begins the episodes anew. */
DISTILL_FUNCTION void distill_save(void *simulator, int32_t environment, void *state);
DISTILL_FUNCTION void distill_load(void *simulator, int32_t environment, const void *state);

/* Random numbers as functions of (seed, name, counters): the generator of Distill itself, Threefry-4x32 with 20 rounds (Salmon et
 * al., "Parallel random numbers: as easy as 1, 2, 3", SC11). Words and uniform numbers have the bits of Distill's RandomStream.
 * Suitable counters are (environment, episode, step, number of the draw in that step). */
typedef struct distill_stream {
    uint32_t key[5];
} distill_stream;

/* name: what the numbers are for, in ASCII: "pendulum.reset"; different names are independent. */
static inline distill_stream distill_make_stream(uint64_t seed, const char *name)
{
    distill_stream stream;
    uint64_t hash = 14695981039346656037u;
    for (; *name != 0; name++)
        hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    stream.key[0] = (uint32_t)seed;
    stream.key[1] = (uint32_t)(seed >> 32);
    stream.key[2] = (uint32_t)hash;
    stream.key[3] = (uint32_t)(hash >> 32);
    stream.key[4] = stream.key[0] ^ stream.key[1] ^ stream.key[2] ^ stream.key[3] ^ 0x1BD11BDAu;
    return stream;
}

/* Four random words for four counters, which are replaced: [4]. */
static inline void distill_bits(const distill_stream *stream, uint32_t *x)
{
    static const uint32_t turns[8][2] = { { 10, 26 }, { 11, 21 }, { 13, 27 }, { 23, 5 },
                                          { 6, 20 },  { 17, 11 }, { 25, 10 }, { 18, 20 } };
    uint32_t i, round, other;
    for (i = 0; i < 4; i++)
        x[i] += stream->key[i];
    for (round = 0; round < 20; round++) {
        const uint32_t *turn = turns[round % 8];
        x[0] += x[1];
        x[1] = ((x[1] << turn[0]) | (x[1] >> (32 - turn[0]))) ^ x[0];
        x[2] += x[3];
        x[3] = ((x[3] << turn[1]) | (x[3] >> (32 - turn[1]))) ^ x[2];
        other = x[1];
        x[1] = x[3];
        x[3] = other;
        if (round % 4 == 3) {
            uint32_t key = round / 4 + 1;
            for (i = 0; i < 4; i++)
                x[i] += stream->key[(key + i) % 5];
            x[3] += key;
        }
    }
}

/* Uniform on [0, 1), a multiple of 2^-24. */
static inline float distill_uniform(const distill_stream *stream, uint32_t environment, uint32_t episode, uint32_t step,
                                    uint32_t draw)
{
    uint32_t x[4];
    x[0] = environment;
    x[1] = episode;
    x[2] = step;
    x[3] = draw;
    distill_bits(stream, x);
    return (float)(x[0] >> 8) * (1.0f / 16777216.0f);
}

/* Normal, of mean 0 and standard deviation 1; Distill's own to 1e-5, as logarithm and cosine are the C library's. */
static inline float distill_normal(const distill_stream *stream, uint32_t environment, uint32_t episode, uint32_t step,
                                   uint32_t draw)
{
    uint32_t x[4];
    double u, v;
    x[0] = environment;
    x[1] = episode;
    x[2] = step;
    x[3] = draw;
    distill_bits(stream, x);
    u = 1.0 - (x[0] >> 8) / 16777216.0; /* in (0, 1], where the logarithm exists */
    v = (x[1] >> 8) / 16777216.0;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

#endif
