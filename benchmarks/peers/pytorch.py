"""PyTorch's side of the benchmarks: reads one request per line, does one repetition, answers with one line.

The first line out says what this PyTorch has. A request names a job and its sizes, the form of Adam and a length in
seconds; the answer is a rate in units per second. Threads and BLAS are set by the environment before the start.
"""

import inspect
import json
import sys
import time

import torch
from torch import nn

ADAM = inspect.signature(torch.optim.Adam.__init__).parameters
CLIP = inspect.signature(nn.utils.clip_grad_norm_).parameters


def adam_of(parameters, form, rate=1e-3):
    return torch.optim.Adam(parameters, lr=rate, **({form: True} if form != "loop" else {}))


def optimiser(parameters, form):
    """Returns a function that clips and steps."""
    parameters = list(parameters)
    adam = adam_of(parameters, form)
    clip = {"foreach": True} if "foreach" in CLIP and form != "loop" else {}

    def update():
        nn.utils.clip_grad_norm_(parameters, 1.0, **clip)
        adam.step()

    return adam, update


def mlp():
    return nn.Sequential(
        nn.Linear(26, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(), nn.Linear(256, 4)
    )


def trainer(net, request):
    """Returns a function of inputs and labels that does one training step."""
    adam, update = optimiser(net.parameters(), request["adam"])
    forward = torch.compile(net) if request.get("compile") else net

    def step(x, y):
        loss = nn.functional.mse_loss(forward(x), y)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        update()

    return step


def mlp_step(request):
    batch = request["batch"]
    x, y, step = torch.rand(batch, 26), torch.rand(batch, 4), trainer(mlp(), request)
    return lambda: step(x, y), batch


def mlp_epoch(request):
    rows, batch = request["rows"], request["batch"]
    x, y, step = torch.rand(rows, 26), torch.rand(rows, 4), trainer(mlp(), request)

    def epoch():
        for indices in torch.randperm(rows).split(batch):
            step(x[indices], y[indices])

    return epoch, rows


class RecurrentStudent(nn.Module):
    def __init__(self, memory, hidden):
        super().__init__()
        self.before, self.memory, self.after = nn.Linear(22, hidden), memory(hidden, hidden), nn.Linear(hidden, 4)

    def forward(self, x):
        return self.after(self.memory(torch.relu(self.before(x)))[0])


def recurrent_step(memory, request):
    steps, sequences = request["steps"], request["sequences"]
    x, y = torch.rand(steps, sequences, 22), torch.rand(steps, sequences, 4)
    step = trainer(RecurrentStudent(memory, request["hidden"]), request)
    return lambda: step(x, y), steps * sequences


def gru_step(request):
    return recurrent_step(nn.GRU, request)


def lstm_step(request):
    return recurrent_step(nn.LSTM, request)


def two_layers(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs))


def sac_update(request):
    """One update of twin critics, their targets, actor and temperature on a batch from a replay (Haarnoja et al. 2018)."""
    observations, actions, batch, form = request["observations"], 4, request["batch"], request["adam"]
    gamma, polyak, target_entropy = 0.99, 0.005, -float(actions)
    actor, critics, targets = two_layers(observations, 2 * actions), [], []
    for networks in (critics, targets):
        networks += [two_layers(observations + actions, 1) for _ in range(2)]
    log_alpha = torch.zeros(1, requires_grad=True)
    of_critics, of_targets = ([p for net in nets for p in net.parameters()] for nets in (critics, targets))
    for parameter in of_targets:
        parameter.requires_grad_(False)
    critic_adam, actor_adam, alpha_adam = (
        adam_of(parameters, form, 3e-4) for parameters in (of_critics, list(actor.parameters()), [log_alpha])
    )
    replay = torch.rand(100_000, 2 * observations + actions + 2)

    def draw(state):
        mean, log_std = forward(state).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        before = normal.rsample()
        action = before.tanh()
        log_density = normal.log_prob(before) - 2 * (0.6931471805599453 - before - nn.functional.softplus(-2 * before))
        return action, log_density.sum(-1, keepdim=True)

    def least(networks, pair):
        return torch.min(networks[0](pair), networks[1](pair))

    compiled = torch.compile if request.get("compile") else (lambda net: net)
    forward = compiled(actor)
    judges, aims = [compiled(net) for net in critics], [compiled(net) for net in targets]

    def update():
        rows = replay[torch.randint(len(replay), (batch,))]
        state, action, reward, terminated, following = rows.split([observations, actions, 1, 1, observations], -1)
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            next_action, log_density = draw(following)
            value = least(aims, torch.cat([following, next_action], -1)) - alpha * log_density
            aim = reward + gamma * (1 - terminated) * value
        pair = torch.cat([state, action], -1)
        critic_adam.zero_grad(set_to_none=True)
        sum(nn.functional.mse_loss(judge(pair), aim) for judge in judges).backward()
        critic_adam.step()
        with torch.no_grad():
            if hasattr(torch, "_foreach_lerp_"):
                torch._foreach_lerp_(of_targets, of_critics, polyak)
            else:
                torch._foreach_mul_(of_targets, 1 - polyak)
                torch._foreach_add_(of_targets, of_critics, alpha=polyak)
        for parameter in of_critics:
            parameter.requires_grad_(False)
        new_action, log_density = draw(state)
        actor_adam.zero_grad(set_to_none=True)
        (alpha * log_density - least(judges, torch.cat([state, new_action], -1))).mean().backward()
        actor_adam.step()
        for parameter in of_critics:
            parameter.requires_grad_(True)
        alpha_adam.zero_grad(set_to_none=True)
        (-log_alpha.exp() * (log_density.detach() + target_entropy)).mean().backward()
        alpha_adam.step()

    return update, 1


class TrajectoryTransformer(nn.Module):
    """States, actions and rewards of 20 steps, and a class token, as 59 tokens."""

    def __init__(self, state=21, action=4, size=32, heads=8, layers=3, hidden=128, steps=20, encoding=6):
        super().__init__()
        sizes = (state, action, 1)
        self.embeddings = nn.ModuleList(nn.Sequential(nn.Linear(n, size), nn.LayerNorm(size)) for n in sizes)
        self.positions, self.token = nn.Parameter(torch.zeros(steps, size)), nn.Parameter(torch.full((size,), -2.0))
        layer = nn.TransformerEncoderLayer(size, heads, hidden, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.heads = nn.ModuleList(nn.Linear(size, n) for n in sizes)
        self.encoding = nn.Linear(size, encoding)

    def forward(self, state, action, reward):
        windows = (state, action, reward)
        parts = [embed(x) + self.positions[: x.shape[1]] for embed, x in zip(self.embeddings, windows)]
        y = self.encoder(torch.cat([*parts, self.token.expand(len(state), 1, -1)], 1))
        split = y.split([x.shape[1] for x in windows] + [1], 1)
        return [head(part) for head, part in zip(self.heads, split)], self.encoding(split[3][:, 0])


def transformer_step(request):
    """Two masked views of each window, reconstruction and InfoNCE, both views in one pass."""
    batch, steps = request["batch"], 20
    windows = [torch.rand(batch, steps - (size < 21), size) for size in (21, 4, 1)]
    tasks = torch.randint(0, 3, (batch,))
    other = (tasks[:, None] == tasks[None]) & ~torch.eye(batch, dtype=torch.bool)
    net = TrajectoryTransformer()
    adam = adam_of(net.parameters(), request["adam"], 2e-4)
    forward = torch.compile(net) if request.get("compile") else net

    def step():
        targets = [torch.cat([x, x]) for x in windows]
        masks = [torch.rand(x.shape[:2]) < 0.15 for x in targets]
        outputs, z = forward(*(x.masked_fill(mask[..., None], 0) for x, mask in zip(targets, masks)))
        loss = 0
        for y, x, mask in zip(outputs, targets, masks):
            for view in (slice(0, batch), slice(batch, None)):
                loss = loss + ((y[view] - x[view]) ** 2)[mask[view]].mean()
        z = nn.functional.normalize(z, dim=1)
        logits = (z[:batch] @ z[batch:].T / 0.15).masked_fill(other, float("-inf"))
        loss = loss + 0.25 * nn.functional.cross_entropy(logits, torch.arange(batch))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    return step, 1


JOBS = {
    "transformer_step": transformer_step,
    "sac_update": sac_update,
    "mlp_step": mlp_step,
    "mlp_epoch": mlp_epoch,
    "gru_step": gru_step,
    "lstm_step": lstm_step,
}
made = {}


def repetition(request):
    seconds = request.pop("seconds")
    key = json.dumps(request, sort_keys=True)
    if key not in made:
        made.clear()
        made[key] = JOBS[request["job"]](request)
        if request["job"] != "mlp_epoch":
            for _ in range(2):
                made[key][0]()
    step, units = made[key]
    done, start = 0, time.perf_counter()
    while True:
        step()
        done += units
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


def works(form):
    """Old versions have forms of Adam that are for GPUs alone."""
    try:
        net = nn.Linear(1, 1)
        net(torch.rand(1, 1)).sum().backward()
        optimiser(net.parameters(), form)[1]()
        return True
    except Exception:
        return False


print(
    json.dumps(
        {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "adam": ["loop"] + [form for form in ("foreach", "fused") if form in ADAM and works(form)],
            "compile": hasattr(torch, "compile"),
        }
    ),
    flush=True,
)
for line in sys.stdin:
    try:
        print(json.dumps({"rate": repetition(json.loads(line))}), flush=True)
    except Exception as error:  # Whatever a setting cannot do: the next one may.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
