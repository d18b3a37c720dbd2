"""A simulator that has no work of its own, so that what a step costs is the way to it: 48 observations and 12 actions of each environment.

    external.py gymnasium | functions   served to Distill, as Gymnasium's vector interface or as five functions
    external.py pipe ENVS               beside it the same arrays, pickled through a pipe to another process and back: a line with seconds
                                        comes in, a line with steps per second goes out
"""

import json
import multiprocessing
import sys
import time

import numpy as np

OBSERVATIONS, ACTIONS = 48, 12


class Arrays:
    def __init__(self, envs):
        self.num_envs = envs
        self.observation = np.random.default_rng(0).standard_normal((envs, OBSERVATIONS)).astype(np.float32)
        self.reward, self.ended = np.zeros(envs), np.zeros(envs, bool)


class Box:
    def __init__(self, size):
        self.shape, self.dtype = (size,), np.dtype(np.float32)
        self.low, self.high = np.full(size, -np.inf), np.full(size, np.inf)


class Gymnasium(Arrays):
    single_observation_space, single_action_space = Box(OBSERVATIONS), Box(ACTIONS)
    metadata = {"autoreset_mode": "SameStep"}

    def reset(self, seed=None, options=None):
        return self.observation, {}

    def step(self, actions):
        return self.observation, self.reward, self.ended, self.ended, {}

    def close(self):
        pass


class Functions(Arrays):
    def spec(self):
        return {"groups": {"state": OBSERVATIONS}, "actions": ACTIONS, "episode_limit": 1 << 24}

    def reset(self, mask, seed):
        pass

    def observe(self, out):
        # Where a simulator would compute them.
        pass

    def step(self, actions):
        return self.reward, self.ended, self.ended

    def close(self):
        pass


def behind(pipe, envs):
    simulator = Gymnasium(envs)
    while pipe.recv() is not None:
        pipe.send(simulator.step(None)[:4])


def pipe(envs):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=behind, args=(theirs, envs), daemon=True)
    process.start()
    actions = np.zeros((envs, ACTIONS), np.float32)
    for line in sys.stdin:
        seconds, steps, begun = json.loads(line)["seconds"], 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - begun < seconds:
            ours.send(actions)
            ours.recv()
            steps += 1
        print(json.dumps({"rate": steps / (time.perf_counter() - begun)}), flush=True)
    ours.send(None)


if __name__ == "__main__":
    if sys.argv[1] == "pipe":
        pipe(int(sys.argv[2]))
    else:
        from distill_environment import from_gymnasium, serve

        if sys.argv[1] == "gymnasium":
            serve(lambda envs, seed: from_gymnasium(Gymnasium(envs), episode_limit=1 << 24))
        serve(lambda envs, seed: Functions(envs))
