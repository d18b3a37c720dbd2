/*
 * The loop of the manipulation environments in C, without observations and rewards: what their cost is measured against
 * (dotnet fsi build.fsx bench manipulation). On Debian: apt-get install gcc libmujoco-dev
 *
 *     gcc -O2 -shared -fPIC native/manipulation_loop.c -o libloop.so -lmujoco
 */
#include <mujoco/mujoco.h>
#include <stdlib.h>

enum { SUBSTEPS = 5, ACTIONS = 4, PUCK = 9 };

static const double low[] = { -0.5, 0.4, 0.05 };
static const double high[] = { 0.5, 1.0, 0.5 };

typedef struct {
    mjModel *model;
    mjData **data;
} tables;

static double clip(double value, double from, double to)
{
    return value < from ? from : value > to ? to : value;
}

/* NULL where the scene cannot be loaded. */
void *tables_create(const char *scene, int envs)
{
    char error[1000];
    int i;
    tables *t = (tables *)malloc(sizeof(tables));
    t->model = mj_loadXML(scene, NULL, error, sizeof(error));
    if (t->model == NULL)
        return NULL;
    t->data = (mjData **)malloc((size_t)envs * sizeof(mjData *));
    for (i = 0; i < envs; i++)
        t->data[i] = mj_makeData(t->model);
    return t;
}

void tables_destroy(void *all, int envs)
{
    tables *t = (tables *)all;
    int i;
    for (i = 0; i < envs; i++)
        mj_deleteData(t->data[i]);
    mj_deleteModel(t->model);
    free(t->data);
    free(t);
}

/* An episode of environments first to first + count - 1. pucks: [envs, 3]; actions: [envs, steps, 4]; places: [envs, 3], out. */
void tables_run(void *all, int first, int count, int steps, const double *pucks, const float *actions, double *places)
{
    tables *t = (tables *)all;
    int env, step, i;
    for (env = first; env < first + count; env++) {
        mjData *d = t->data[env];
        mj_resetData(t->model, d);
        for (i = 0; i < 3; i++)
            d->qpos[PUCK + i] = pucks[3 * env + i];
        mj_kinematics(t->model, d);
    }
    for (step = 0; step < steps; step++)
        for (env = first; env < first + count; env++) {
            mjData *d = t->data[env];
            const float *action = actions + ((size_t)env * (size_t)steps + (size_t)step) * ACTIONS;
            for (i = 0; i < 3; i++)
                d->mocap_pos[i] = clip(d->mocap_pos[i] + 0.01 * clip(action[i], -1, 1), low[i], high[i]);
            d->ctrl[0] = d->ctrl[1] = clip(action[3], -1, 1);
            for (i = 0; i < SUBSTEPS; i++)
                mj_step(t->model, d);
            mj_kinematics(t->model, d);
        }
    for (env = first; env < first + count; env++)
        for (i = 0; i < 3; i++)
            places[3 * env + i] = t->data[env]->qpos[PUCK + i];
}
