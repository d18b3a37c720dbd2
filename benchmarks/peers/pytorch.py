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


def optimiser(parameters, form):
    """Returns a function that clips and steps."""
    parameters = list(parameters)
    adam = torch.optim.Adam(parameters, lr=1e-3, **({form: True} if form != "loop" else {}))
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


JOBS = {"mlp_step": mlp_step, "mlp_epoch": mlp_epoch, "gru_step": gru_step, "lstm_step": lstm_step}
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
