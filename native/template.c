/* An environment of your own: copy this file, and replace what is marked. As it stands, a point on a line is pushed towards 0.
 * distill_environment.h says what each function gets and gives.
 *
 *     cc -O2 -shared -fPIC -o libmine.so mine.c -lm          as C++: c++ -O2 -shared -fPIC -o libmine.so mine.cpp
 */
#include <stdlib.h>

#include "distill_environment.h"

/* REPLACE: all that an environment remembers. With MuJoCo it would be `mjData *data;`. */
typedef struct world {
    float place; /* m */
} world;

/* What all share, such as a model, belongs here, beside the worlds, and is only read after distill_create. */
typedef struct simulation {
    distill_stream random;
    world *worlds; /* [envs] */
} simulation;

/* REPLACE: what policies read, and what an action is. */
static const distill_component state[] = { { "place, m", 1 }, { NULL, 0 } };
static const distill_group groups[] = { { "teacher", state }, { "student", state }, { NULL, NULL } };
static const distill_facts facts = {
    DISTILL_ENVIRONMENT_VERSION,
    100,    /* steps of an episode */
    0.1,    /* s of a step */
    "mine", /* name */
    groups,
    1, /* numbers of an action, or choices */
    0, /* 1 where an action is the index of a choice */
    "velocity, m/s, clipped to [-1, 1]",
    NULL, /* measures */
    NULL, /* variants */
    0,    /* bytes of distill_save, where that and distill_load are offered */
};

const distill_facts *distill_describe(const char *options)
{
    (void)options;
    return &facts;
}

void *distill_create(const char *options, int32_t envs, uint64_t seed)
{
    simulation *all = (simulation *)malloc(sizeof(simulation));
    (void)options;
    if (all == NULL)
        return NULL;
    all->random = distill_make_stream(seed, "mine");
    all->worlds = (world *)calloc((size_t)envs, sizeof(world));
    if (all->worlds == NULL) {
        free(all);
        return NULL;
    }
    return all;
}

void distill_destroy(void *simulator)
{
    free(((simulation *)simulator)->worlds);
    free(simulator);
}

void distill_reset(void *simulator, int32_t environment, uint32_t episode)
{
    simulation *all = (simulation *)simulator;
    /* REPLACE: the first state of an episode. With MuJoCo: mj_resetData, then qpos and qvel. */
    all->worlds[environment].place = 2 * distill_uniform(&all->random, (uint32_t)environment, episode, 0, 0) - 1;
}

void distill_observe(void *simulator, int32_t first, int32_t count, int32_t group, float *observations)
{
    simulation *all = (simulation *)simulator;
    int32_t i;
    (void)group; /* both are the same here */
    for (i = 0; i < count; i++)
        /* REPLACE: the numbers of environment first + i, from observations + i * size on. */
        observations[i] = all->worlds[first + i].place;
}

void distill_step(void *simulator, int32_t first, int32_t count, const float *actions, float *reward, float *terminated,
                  float *truncated, float *measures)
{
    simulation *all = (simulation *)simulator;
    int32_t i;
    (void)truncated;
    (void)measures;
    for (i = 0; i < count; i++) {
        world *one = &all->worlds[first + i];
        /* REPLACE: one step with the numbers from actions + i * action_size on. With MuJoCo: ctrl, then mj_step a few times. */
        one->place += 0.1f * fmaxf(-1, fminf(1, actions[i]));
        reward[i] = 1 - fabsf(one->place);
        terminated[i] = fabsf(one->place) > 2;
    }
}
