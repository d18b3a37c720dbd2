/* A pendulum that a weak motor has to swing up and to keep there: the dynamics and the reward of Gymnasium's Pendulum-v1, in single
 * precision, with torques of +-2 N m as actions of +-1.
 *
 *     cc -O2 -shared -fPIC -o libpendulum.so pendulum.c -lm
 */
#include <stdlib.h>
#include <string.h>

#include "distill_environment.h"

#define STEP_SECONDS 0.05f
#define GRAVITY 10.0f     /* m/s^2 */
#define MOST_TORQUE 2.0f  /* N m; the rod has 1 kg and 1 m */
#define MOST_SPEED 8.0f   /* rad/s */
#define HALF_TURN 3.14159265f

/* All that an environment remembers. */
typedef struct world {
    float angle; /* rad from upright, in [-pi, pi] */
    float speed; /* rad/s */
} world;

/* All environments; the stream is shared and only read. */
typedef struct pendulums {
    distill_stream random;
    world *worlds; /* [envs] */
} pendulums;

enum { TEACHER, STUDENT };

static const distill_component all[] = { { "cosine and sine of the angle from upright", 2 }, { "angular velocity, rad/s", 1 }, { NULL, 0 } };
static const distill_component seen[] = { { "cosine and sine of the angle from upright", 2 }, { NULL, 0 } };
static const distill_group groups[] = { { "teacher", all }, { "student", seen }, { NULL, NULL } };
static const distill_measure measured[] = { { "angle", "rad", DISTILL_MEAN, 0 }, { NULL, NULL, 0, 0 } };

static const distill_facts facts = {
    DISTILL_ENVIRONMENT_VERSION,
    200, /* steps of an episode */
    STEP_SECONDS,
    "pendulum",
    groups,
    1, /* number of an action */
    0, /* which is no choice */
    "torque in 2 N m, clipped to [-1, 1]",
    measured,
    NULL, /* all are alike */
    sizeof(world),
};

static float clip(float value, float limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

const distill_facts *distill_describe(const char *options)
{
    return *options == 0 ? &facts : NULL;
}

const char *distill_error(void)
{
    return "the pendulum has no options, or there is no memory for so many";
}

void *distill_create(const char *options, int32_t envs, uint64_t seed)
{
    pendulums *all_of_them = (pendulums *)malloc(sizeof(pendulums));
    (void)options;
    if (all_of_them == NULL)
        return NULL;
    all_of_them->random = distill_make_stream(seed, "pendulum");
    all_of_them->worlds = (world *)calloc((size_t)envs, sizeof(world));
    if (all_of_them->worlds == NULL) {
        free(all_of_them);
        return NULL;
    }
    return all_of_them;
}

void distill_destroy(void *simulator)
{
    free(((pendulums *)simulator)->worlds);
    free(simulator);
}

void distill_reset(void *simulator, int32_t environment, uint32_t episode)
{
    pendulums *all_of_them = (pendulums *)simulator;
    world *one = &all_of_them->worlds[environment];
    one->angle = HALF_TURN * (2 * distill_uniform(&all_of_them->random, (uint32_t)environment, episode, 0, 0) - 1);
    one->speed = 2 * distill_uniform(&all_of_them->random, (uint32_t)environment, episode, 0, 1) - 1;
}

void distill_observe(void *simulator, int32_t first, int32_t count, int32_t group, float *observations)
{
    const world *worlds = ((pendulums *)simulator)->worlds + first;
    int32_t i;
    for (i = 0; i < count; i++) {
        *observations++ = cosf(worlds[i].angle);
        *observations++ = sinf(worlds[i].angle);
        if (group == TEACHER)
            *observations++ = worlds[i].speed;
    }
}

void distill_step(void *simulator, int32_t first, int32_t count, const float *actions, float *reward, float *terminated,
                  float *truncated, float *measures)
{
    world *worlds = ((pendulums *)simulator)->worlds + first;
    int32_t i;
    (void)terminated; /* it never falls: all episodes end by the limit */
    (void)truncated;
    for (i = 0; i < count; i++) {
        world *one = &worlds[i];
        float torque = MOST_TORQUE * clip(actions[i], 1);
        reward[i] = -(one->angle * one->angle + 0.1f * one->speed * one->speed + 0.001f * torque * torque);
        one->speed += (1.5f * GRAVITY * sinf(one->angle) + 3 * torque) * STEP_SECONDS;
        one->speed = clip(one->speed, MOST_SPEED);
        one->angle += one->speed * STEP_SECONDS;
        if (one->angle > HALF_TURN)
            one->angle -= 2 * HALF_TURN;
        else if (one->angle < -HALF_TURN)
            one->angle += 2 * HALF_TURN;
        if (measures != NULL)
            measures[i] = fabsf(one->angle);
    }
}

void distill_save(void *simulator, int32_t environment, void *state)
{
    memcpy(state, &((pendulums *)simulator)->worlds[environment], sizeof(world));
}

void distill_load(void *simulator, int32_t environment, const void *state)
{
    memcpy(&((pendulums *)simulator)->worlds[environment], state, sizeof(world));
}
