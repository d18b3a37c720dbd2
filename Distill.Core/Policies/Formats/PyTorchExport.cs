using System.Globalization;
using System.Text;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>A policy as a PyTorch checkpoint, and beside it the Python that runs it: a module for this very architecture.</summary>
internal sealed class PyTorchExport
{
    private readonly StringBuilder text = new();
    private readonly Policy policy;
    private readonly NetworkSpec spec;
    private readonly ExportedNetwork network;

    private PyTorchExport(Policy policy)
    {
        this.policy = policy;
        spec = policy.Network.Spec;
        network = new ExportedNetwork(policy);
    }

    public static void Save(string path, Policy policy)
    {
        var code = new PyTorchExport(policy).Module(Path.GetFileName(path));
        PolicyFile.Save(path, policy);
        AtomicFile.WriteText(Path.ChangeExtension(path, ".py"), code);
    }

    private bool Chooses => spec.Head == Head.Categorical;

    private string Module(string file)
    {
        text.Append(
            $"# Runs the policy in {DistillException.Printable(file)}, which was trained with Distill:\n"
        );
        text.Append("#     policy = Policy.load(path); memory = policy.reset(batch)\n");
        text.Append($"#     {Results} = policy.step(observation, memory)\n#\n");
        foreach (var line in PolicyFacts.Lines(policy))
            text.Append($"# {line}\n");
        Constructor();
        Load();
        Forward();
        return text.ToString();
    }

    private string Results => Chooses ? "choice, memory, logits" : "action, memory";

    private void Constructor()
    {
        text.Append(
            """

            import torch


            class Policy(torch.nn.Module):
                def __init__(self):
                    super().__init__()

            """
        );
        foreach (var layer in network.Layers)
        {
            var module = layer.Spec switch
            {
                Gru => "GRUCell",
                Lstm => "LSTMCell",
                _ => "Linear",
            };
            // Of a last layer that gives deviations, too, the checkpoint has all.
            var rows = layer.Index == spec.Layers.Count - 1 ? Rows : layer.Size;
            Line(2, $"self.layer{layer.Index} = torch.nn.{module}({layer.Inputs}, {rows})");
        }
        if (policy.Normalizer is null)
            return;
        Line(2, $"self.register_buffer(\"mean\", torch.zeros(1, {spec.Inputs}))");
        Line(2, $"self.register_buffer(\"std\", torch.ones(1, {spec.Inputs}))");
    }

    private int Rows => spec.Head == Head.Gaussian ? spec.Outputs : policy.Network.OutputSize;

    private void Load()
    {
        text.Append(
            """

                @staticmethod
                def load(path):
                    saved = torch.load(path, map_location="cpu")["student_state_dict"]
                    policy = Policy()
                    policy.load_state_dict({

            """
        );
        foreach (var view in policy.Network.Views.Where(view => char.IsAsciiDigit(view.Name[0])))
            Line(3, $"\"layer{view.Name}\": saved[\"{PyTorchFormat.NameOf(spec, view)}\"],");
        if (policy.Normalizer is not null)
            foreach (var name in new[] { "mean", "std" })
                Line(3, $"\"{name}\": saved[\"obs_normalizer._{name}\"],");
        text.Append(
            $$"""
                    })
                    return policy

                @staticmethod
                def reset(batch=1):
                    return torch.zeros(batch, {{policy.MemorySize}})

                def step(self, observation, memory):
                    with torch.no_grad():
                        return self(observation, memory)


            """
        );
    }

    private void Forward()
    {
        Line(1, "def forward(self, x, memory):");
        if (policy.Normalizer is { } normalizer)
            Line(2, $"x = (x - self.mean) / (self.std + {Number(normalizer.Epsilon)})");
        var first = 0;
        var kept = new List<string>();
        foreach (var layer in network.Layers)
        {
            var own = $"self.layer{layer.Index}";
            var at = $"memory[:, {first}:{first + layer.Size}]";
            var next = first + layer.Size;
            switch (layer.Spec)
            {
                case Gru:
                    Line(2, $"x = h{layer.Index} = {own}(x, {at})");
                    kept.Add($"h{layer.Index}");
                    break;
                case Lstm:
                    var h = $"memory[:, {next}:{next + layer.Size}]";
                    Line(2, $"h{layer.Index}, c{layer.Index} = {own}(x, ({h}, {at}))");
                    Line(2, $"x = h{layer.Index}");
                    kept.AddRange([$"c{layer.Index}", $"h{layer.Index}"]);
                    break;
                default:
                    Line(2, $"x = {Activated(layer.Spec.Nonlinearity, $"{own}(x)")}");
                    break;
            }
            first += layer.MemorySize;
        }
        if (Rows != spec.Outputs)
            Line(2, $"x = x[:, :{spec.Outputs}]");
        if (spec.Head == Head.SquashedGaussian)
            Line(2, "x = torch.tanh(x)");
        if (kept.Count > 0)
            Line(2, $"memory = torch.cat([{string.Join(", ", kept)}], dim=1)");
        Line(2, Chooses ? "return x.argmax(dim=1, keepdim=True), memory, x" : "return x, memory");
    }

    private static string Activated(Activation? activation, string x) =>
        activation switch
        {
            Activation.Relu => $"torch.relu({x})",
            Activation.Elu => $"torch.nn.functional.elu({x})",
            Activation.Tanh => $"torch.tanh({x})",
            Activation.Selu => $"torch.selu({x})",
            _ => x,
        };

    private static string Number(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private void Line(int depth, string line) => text.Append(' ', 4 * depth).Append(line).Append('\n');
}
