"""Serves a vectorised simulator to Distill, which trains and evaluates policies in it.

    from distill_environment import serve

    def make(envs, seed):
        return gymnasium.make_vec("Pendulum-v1", num_envs=envs)

    serve(make)

What `make` returns is one of

- anything with the interface of `gymnasium.vector.VectorEnv`; `from_gymnasium(env, ...)` says more about it,
- anything with the interface of rsl_rl's `VecEnv`; `from_rsl_rl(env, ...)` says more about it,
- an object of your own with five functions:

      spec()              -> facts, see below
      reset(mask, seed)   begins an episode where mask [envs] is true; seed is None where an episode merely ended before
      observe(out)        writes the current states: out["state"][:] = ..., [envs, size], float32
      step(actions)       -> reward, terminated, truncated, each [envs], and if there are any a dict of measures, each [envs];
                          actions are [envs, size], float32, or [envs], int64, for choices, and valid during the call
      close()

  Episodes that end are not restarted by `step`: `observe` has to show their last states, then `reset` is called for them.

Facts, as the dict of `spec()` or as keyword arguments of `from_gymnasium` and `from_rsl_rl`, where all of them are optional:

    name            for messages and files
    envs            how many there are, where that is not what was asked for
    groups          {"state": 3} or {"state": {"angle, rad": 1, "velocity, rad/s": 2}}: observation groups, what their numbers are
    views           {"teacher": "state"}: other names of groups. Where there is no "teacher" or "student", that is another
                    name of "policy", or of the first group
    actions         3, or {"size": 3, "low": -1, "high": 1, "meaning": "torques, N m"}, or {"choices": 2}. Actions are clipped to
                    the range; with "unit": True -1 .. 1 is stretched to it
    episode_limit   steps after which an episode is truncated at the latest
    step_seconds    simulated seconds of a step
    measures        {"success": {"unit": "", "over": "final", "higher_is_better": True}}: numbers of each step that evaluations
                    report of an episode, over "mean", "final" or "max"; of wrapped simulators by their names in `info` or `extras`
    variants        ["flat", "stairs"]: names of tasks that environments differ in, and
    variant_of      [envs]: index of each environment's own
    masked_reset    whether some environments can be reset while others go on

This needs numpy alone. Tensors of torch are taken and given where the simulator uses them.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket as sockets
import struct
import sys
import threading
import time
import traceback

import numpy as np

VERSION = 1

# Seconds. A core that sleeps takes about as long to wake, so that what comes sooner is waited for awake.
_AWAKE = 1e-4


def serve(make, socket=None):
    """Runs until Distill is done. Where Distill did not start the program, it waits for connections at the path `socket`.

    make    make(envs, seed) returns the simulator; or a simulator that exists, whose number of environments is fixed. With `socket`
            it is made for the first connection and kept.
    """
    started = os.environ.pop("DISTILL_SOCKET", None)
    if started:
        # Ctrl-C in the terminal is for Distill, which still saves its checkpoint.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(_serve_starter(make, started))
    if socket is None:
        sys.exit('Distill starts this program by itself, as External.command "python3 my_env.py"; or call serve(make, socket="/path").')
    _serve_connections(make, socket)


def from_gymnasium(env, autoreset=None, **facts):
    """A simulator with the interface of `gymnasium.vector.VectorEnv`.

    autoreset   what happens to an environment whose episode ends: "next_step" (the step after it is the reset, as in Gymnasium 1),
                "same_step" (the step resets it, `info["final_obs"]` or `info["final_observation"]` has the last observation, as in
                Gymnasium 0.2x) or "disabled"; None for what `env.metadata` or the version of Gymnasium says.
    """
    return _Gymnasium(env, autoreset, facts)


def from_rsl_rl(env, final_observations=None, **facts):
    """A simulator with the interface of rsl_rl's `VecEnv`, any version: Isaac Lab's `RslRlVecEnvWrapper`, legged_gym.

    final_observations  key of `extras` that has the observations in which episodes ended, if the simulator gives them
    """
    return _RslRl(env, final_observations, facts)


# Simulators of each kind behind one interface: facts, reset(memory, mask, seed), step(memory), close().


class _Functions:
    def __init__(self, simulator, envs):
        self.simulator = simulator
        self.facts = _complete(dict(simulator.spec()), envs)
        self.facts["ends"] = True

    def reset(self, memory, mask, seed):
        self.simulator.reset(mask, seed)
        self.simulator.observe(memory.observations)

    def step(self, memory):
        reward, terminated, truncated, *measures = self.simulator.step(memory.given_actions())
        ended = memory.set_outcome(reward, terminated, truncated)
        for name, values in (measures[0] if measures else {}).items():
            memory.set_measure(name, values)
        self.simulator.observe(memory.observations)
        if ended.any():
            for name, final in memory.final.items():
                final[ended] = memory.observations[name][ended]
            self.simulator.reset(ended, None)
            self.simulator.observe(memory.observations)

    def close(self):
        self.simulator.close()


class _Gymnasium:
    def __init__(self, env, autoreset, facts):
        self.env = env
        self.mode = _autoreset_mode(env, autoreset)
        self.ended = np.zeros(env.num_envs, bool)
        observations, actions = env.single_observation_space, env.single_action_space
        spaces = getattr(observations, "spaces", {"state": observations})
        self.names = list(spaces) if hasattr(observations, "spaces") else None
        facts.setdefault("groups", {name: _size(space, f"observation '{name}'") for name, space in spaces.items()})
        self.first_choice = int(getattr(actions, "start", 0))
        if hasattr(actions, "n"):
            facts.setdefault("actions", {"choices": int(actions.n)})
        elif not isinstance(facts.get("actions"), dict):
            flat = lambda bound: np.asarray(bound, float).reshape(-1).tolist()
            facts["actions"] = {"size": _size(actions, "action"), "low": flat(actions.low), "high": flat(actions.high)}
        metadata = getattr(env, "metadata", None) or {}
        spec = getattr(env, "spec", None)
        facts.setdefault("name", getattr(spec, "id", None) or type(env).__name__)
        facts.setdefault("episode_limit", getattr(spec, "max_episode_steps", None) or 1000)
        facts.setdefault("step_seconds", 1 / (metadata.get("render_fps") or 50))
        if self.mode == "disabled":
            facts["masked_reset"] = True
        self.facts = _complete(facts, env.num_envs)
        self.facts["ends"] = True
        self.facts["pauses"] = self.mode == "next_step"

    def reset(self, memory, mask, seed):
        self.ended[mask] = False
        options = None if mask.all() else {"reset_mask": mask}
        self._show(memory, self.env.reset(seed=seed, options=options)[0])

    def step(self, memory):
        actions = memory.given_actions()
        if actions.dtype == np.int64:
            actions = actions + self.first_choice
        else:
            space = self.env.single_action_space
            actions = actions.astype(space.dtype).reshape(-1, *space.shape)
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if self.mode == "next_step":
            # These have spent the step on their reset.
            paused = self.ended
            reward = np.where(paused, 0, _numpy(reward))
            terminated, truncated = (_numpy(flags).astype(bool) & ~paused for flags in (terminated, truncated))
        self.ended = memory.set_outcome(reward, terminated, truncated)
        for name in memory.measures:
            memory.set_measure(name, _measure(info, name, self.ended))
        self._show(memory, observation)
        if not self.ended.any():
            return
        if self.mode == "same_step":
            final = info.get("final_obs", info.get("final_observation"))
            if final is None:
                raise ValueError('an episode ended, but info has neither "final_obs" nor "final_observation"; if the step after it is the reset, say from_gymnasium(env, autoreset="next_step")')
            memory.set_final(self.ended, final, self.names)
            return
        for name, rows in memory.final.items():
            rows[self.ended] = memory.observations[name][self.ended]
        if self.mode == "disabled":
            self._show(memory, self.env.reset(options={"reset_mask": self.ended.copy()})[0])

    def close(self):
        self.env.close()

    def _show(self, memory, observation):
        memory.set_observations(observation if self.names else {"state": observation})


class _RslRl:
    def __init__(self, env, final_observations, facts):
        self.env, self.final = env, final_observations
        if not hasattr(env, "reset"):
            raise TypeError("the simulator has no reset(), so that no episode can be begun; add one that begins all")
        observations = self._groups(env.get_observations())
        first = next(iter(observations.values()))
        self.torch = sys.modules.get("torch") if hasattr(first, "detach") else None
        facts.setdefault("groups", {name: int(np.prod(values.shape[1:])) for name, values in observations.items()})
        facts.setdefault("actions", int(env.num_actions))
        unwrapped = getattr(env, "unwrapped", env)
        facts.setdefault("name", type(unwrapped).__name__)
        facts.setdefault("episode_limit", int(getattr(env, "max_episode_length", 1000)))
        facts.setdefault("step_seconds", float(getattr(unwrapped, "step_dt", getattr(unwrapped, "dt", 0.02))))
        self.facts = _complete(facts, int(env.num_envs))
        self.facts["ends"] = final_observations is not None

    def reset(self, memory, mask, seed):
        if hasattr(self.env, "seed") and callable(self.env.seed):
            self.env.seed(seed)
        elif self.torch is not None:
            self.torch.manual_seed(seed)
        with self._inference():
            self.env.reset()
            memory.set_observations(self._groups(self.env.get_observations()))

    def step(self, memory):
        actions = memory.given_actions().copy()
        if self.torch is not None:
            actions = self.torch.from_numpy(actions).to(getattr(self.env, "device", "cpu"))
        with self._inference():
            observation, *privileged, reward, done, extras = self.env.step(actions)
        done = _numpy(done).astype(bool).reshape(-1)
        late = extras.get("time_outs")
        truncated = np.zeros_like(done) if late is None else _numpy(late).astype(bool).reshape(-1) & done
        ended = memory.set_outcome(reward, done & ~truncated, truncated)
        for name in memory.measures:
            memory.set_measure(name, extras.get(name, 0))
        memory.set_observations(self._groups((observation, *privileged, extras) if privileged else (observation, extras)))
        if self.final is not None and ended.any():
            final = extras[self.final]
            memory.set_final(ended, final if hasattr(final, "keys") else {"policy": final}, ["policy"])

    def close(self):
        getattr(self.env, "close", lambda: None)()

    def _groups(self, returned):
        """The groups of what get_observations or step returned: a TensorDict, or a tensor and what is beside it."""
        observation, *others = returned if isinstance(returned, tuple) else (returned,)
        if hasattr(observation, "keys"):
            return {name: observation[name] for name in observation.keys()}
        groups = {"policy": observation}
        if len(others) == 2 and others[0] is not None:
            groups["critic"] = others[0]
        beside = others[-1].get("observations", {}) if others and hasattr(others[-1], "get") else {}
        groups.update((name, beside[name]) for name in beside.keys() if name != "policy")
        if not beside and getattr(self.env, "get_privileged_observations", None) and "critic" not in groups:
            privileged = self.env.get_privileged_observations()
            if privileged is not None:
                groups["critic"] = privileged
        return groups

    def _inference(self):
        return self.torch.inference_mode() if self.torch is not None else contextlib.nullcontext()


# Facts


def _complete(facts, envs):
    """Facts as Distill reads them."""
    unknown = set(facts) - set(
        "name envs groups views actions episode_limit step_seconds measures variants variant_of masked_reset".split()
    )
    if unknown:
        raise ValueError(f"there is no fact '{sorted(unknown)[0]}'")
    groups = {}
    for name, content in facts["groups"].items():
        parts = content.items() if isinstance(content, dict) else [(name, content)]
        groups[name] = {"array": name, "components": [{"name": part, "size": int(size)} for part, size in parts]}
    usual = "policy" if "policy" in groups else next(iter(groups))
    for view, name in {"teacher": usual, "student": usual, **facts.get("views", {})}.items():
        if view in groups and view not in facts.get("views", {}):
            continue
        if name not in facts["groups"]:
            raise ValueError(f"view '{view}' is to be group '{name}', but the groups are {', '.join(facts['groups'])}")
        groups[view] = groups[name]
    actions = facts["actions"]
    actions = dict(actions) if isinstance(actions, dict) else {"size": int(actions)}
    if "choices" not in actions:
        for bound in ("low", "high"):
            if bound in actions:
                values = np.broadcast_to(np.asarray(actions[bound], float), actions["size"])
                actions[bound] = [float(value) if np.isfinite(value) else None for value in values]
    return {
        "name": facts.get("name", "simulator"),
        "envs": int(facts.get("envs", envs)),
        "groups": [{"name": name, **group} for name, group in groups.items()],
        "actions": actions,
        "episode_limit": int(facts.get("episode_limit", 1000)),
        "step_seconds": float(facts.get("step_seconds", 0.02)),
        "measures": [{"name": name, **(how or {})} for name, how in facts.get("measures", {}).items()],
        "variants": list(facts.get("variants", [])),
        "variant_of": [int(index) for index in facts.get("variant_of", [])],
        "masked_reset": bool(facts.get("masked_reset", False)),
    }


def _autoreset_mode(env, given):
    mode = given
    if mode is None:
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
    if mode is None and "gymnasium" in sys.modules:
        # Before 1.0 the step reset; 1.0 alone had the other convention without saying so.
        mode = "same_step" if sys.modules["gymnasium"].__version__.startswith("0.") else "next_step"
    name = str(getattr(mode, "value", mode)).lower().replace("_", "")
    modes = {"nextstep": "next_step", "samestep": "same_step", "disabled": "disabled"}
    if name not in modes:
        raise ValueError('what happens where an episode ends is unknown; say from_gymnasium(env, autoreset="next_step") or "same_step"')
    return modes[name]


def _size(space, what):
    shape = getattr(space, "shape", None)
    if shape is None or hasattr(space, "n") or hasattr(space, "nvec"):
        raise ValueError(f"the {what} is a {type(space).__name__}; it must be a Box, for actions also Discrete")
    return int(np.prod(shape))


def _measure(info, name, ended):
    """A measure of all environments: of those whose episode ended and that have begun another, from `final_info`."""
    values = np.array(_numpy(info.get(name, np.zeros(len(ended)))), np.float32)
    final = info.get("final_info")
    if isinstance(final, dict) and name in final:
        values[ended] = _numpy(final[name])[ended]
    elif final is not None and not isinstance(final, dict):
        for env in np.flatnonzero(ended):
            values[env] = (final[env] or {}).get(name, 0)
    return values


# The connection


class _Gone(Exception):
    """Distill has closed the connection."""


class _Memory:
    """The arrays in shared memory, each a view of [envs, ...]."""

    def __init__(self, path, layout, facts):
        file = os.open(path, os.O_RDWR)
        try:
            self.map = mmap.mmap(file, layout["bytes"])
        finally:
            os.close(file)
        envs = facts["envs"]
        view = lambda place: np.frombuffer(self.map, np.float32, int(np.prod(place["shape"])), place["offset"]).reshape(place["shape"])
        rows = lambda places: {name: view(place)[:envs] for name, place in places.items()}
        self.actions = view(layout["actions"])[:envs]
        self.reward, self.terminated, self.truncated, self.mask = (
            view(layout[name])[:envs] for name in ("reward", "terminated", "truncated", "mask")
        )
        self.measures = {name: view(place)[:envs] for name, place in layout["measures"].items()}
        self.observations, self.final = rows(layout["observations"]), rows(layout["final"])
        self.space = facts["actions"]
        bound = lambda name, infinite: np.array(
            [infinite if value is None else value for value in self.space.get(name, [])] or infinite, np.float32
        )
        self.low, self.high = bound("low", -np.inf), bound("high", np.inf)
        self.bounded = np.isfinite(self.low).any() or np.isfinite(self.high).any()

    def given_actions(self):
        """What Distill wants done, within the range."""
        if "choices" in self.space:
            return self.actions[:, 0].astype(np.int64)
        if self.space.get("unit"):
            return self.low + (np.clip(self.actions, -1, 1) + 1) * (0.5 * (self.high - self.low))
        return np.clip(self.actions, self.low, self.high) if self.bounded else self.actions

    def set_outcome(self, reward, terminated, truncated):
        """Returns which episodes ended."""
        _fill(self.reward, reward, "the reward")
        _fill(self.terminated, terminated, "terminated")
        _fill(self.truncated, truncated, "truncated")
        over = self.terminated != 0
        np.copyto(self.truncated, 0, where=over)
        return over | (self.truncated != 0)

    def set_measure(self, name, values):
        if name not in self.measures:
            raise ValueError(f"measure '{name}' was not declared")
        _fill(self.measures[name], np.broadcast_to(_numpy(values), self.measures[name].shape), f"measure '{name}'")

    def set_observations(self, groups):
        for name, rows in self.observations.items():
            if name not in groups:
                raise ValueError(f"observation group '{name}' is missing")
            _fill(rows, groups[name], f"observation group '{name}'")

    def set_final(self, ended, final, names):
        """From a batch, a dict of batches, or an array of what each environment's own observation is, None where none ended."""
        if not hasattr(final, "keys") and getattr(final, "dtype", None) != object:
            final = {(names or ["state"])[0]: final}
        for name, rows in self.final.items():
            if hasattr(final, "keys"):
                rows[ended] = _numpy(final[name]).reshape(len(ended), -1)[ended]
            else:
                for env in np.flatnonzero(ended):
                    own = final[env][name] if names else final[env]
                    rows[env] = _numpy(own).reshape(-1)


def _numpy(values):
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _fill(target, values, what):
    values = _numpy(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{what} has the type {values.dtype}; it must be numbers")
    if values.size != target.size or values.shape[:1] != target.shape[:1]:
        raise ValueError(f"{what} has the shape {list(values.shape)}, not {list(target.shape)}")
    target[...] = values.reshape(target.shape)


def _receive(connection, count):
    data = b""
    while len(data) < count:
        data += _received(connection.recv(count - len(data)))
    return data


def _received(data):
    if not data:
        raise _Gone
    return data


def _command(connection, soon):
    """The next command, and whether it came soon: awake for a moment, where the last did, then asleep."""
    asked = time.perf_counter()
    while soon and time.perf_counter() - asked < _AWAKE:
        with contextlib.suppress(BlockingIOError):
            return _received(connection.recv(1, sockets.MSG_DONTWAIT)), True
        os.sched_yield()
    return _receive(connection, 1), time.perf_counter() - asked < 2 * _AWAKE


def _hear(connection):
    return json.loads(_receive(connection, struct.unpack("<i", _receive(connection, 4))[0]))


def _tell(connection, message, prefix=b""):
    data = json.dumps(message).encode()
    connection.sendall(prefix + struct.pack("<i", len(data)) + data)


def _wrapped(made, envs):
    if hasattr(made, "facts"):
        return made
    if hasattr(made, "single_action_space"):
        return from_gymnasium(made)
    if hasattr(made, "get_observations"):
        return from_rsl_rl(made)
    if hasattr(made, "spec") and hasattr(made, "observe"):
        return _Functions(made, envs)
    raise TypeError(f"make returned a {type(made).__name__}, which is no simulator of a known kind")


def _describe(error):
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__] or frames
    place = f" ({os.path.basename(own[-1].filename)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def _session(connection, make, simulator):
    """Serves one connection; returns the simulator, which may serve another."""
    try:
        _tell(connection, {"distill_environment": VERSION})
        asked = _hear(connection)
        prefix = b""
        try:
            if simulator is None:
                made = make(asked["envs"], asked["seed"]) if callable(make) and not hasattr(make, "step") else make
                simulator = _wrapped(made, asked["envs"])
            _tell(connection, simulator.facts)
            layout = _hear(connection)
            memory = _Memory(layout["path"], layout, simulator.facts)
            prefix = b"E"
            connection.sendall(b"K")
            soon = True
            while True:
                command, soon = _command(connection, soon)
                if command == b"S":
                    simulator.step(memory)
                elif command == b"R":
                    (seed,) = struct.unpack("<q", _receive(connection, 8))
                    simulator.reset(memory, memory.mask != 0, seed)
                else:
                    return simulator
                connection.sendall(b"K")
        except _Gone:
            raise
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            _tell(connection, {"error": _describe(error)}, prefix)
            raise
    except (_Gone, BrokenPipeError, ConnectionResetError):
        return simulator


def _serve_starter(make, path):
    connection = sockets.socket(sockets.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(path)
        return "Distill, which started this program, has gone."
    threading.Thread(target=_leave_with, args=(connection.fileno(),), daemon=True).start()
    try:
        simulator = _session(connection, make, None)
    except Exception:
        return 1
    if simulator is not None:
        simulator.close()
    return 0


def _leave_with(file):
    """Ends the program, even in a step that hangs, soon after the other side of the connection has gone."""
    poll = select.poll()
    poll.register(file, 0)
    poll.poll()
    time.sleep(2)
    os._exit(1)


def _serve_connections(make, path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    server = sockets.socket(sockets.AF_UNIX)
    server.bind(path)
    os.chmod(path, 0o600)
    server.listen()
    print(f"Waiting for Distill at {path}", flush=True)
    simulator = None
    try:
        while True:
            connection, _ = server.accept()
            with connection:
                simulator = _session(connection, make, simulator)
    finally:
        os.remove(path)
