using System.Globalization;
using System.Text;
using Distill.Networks;
using Distill.Storage;

namespace Distill.Policies;

/// <summary>
/// A policy as one header in C99 that needs nothing but math.h, for micro-controllers: weights as constants, a state, and
/// functions that reset and step it. All its names begin with that of the file, so that a program can hold several.
/// </summary>
internal sealed class CExport
{
    private const int Examples = 4;

    private readonly StringBuilder text = new();
    private readonly Policy policy;
    private readonly NetworkSpec spec;
    private readonly ExportedNetwork network;

    /// <summary>Numbers of two buffers for what dense layers give in turn; a normalized observation is in the first.</summary>
    private readonly int[] buffers = [0, 0];

    private CExport(Policy policy)
    {
        this.policy = policy;
        spec = policy.Network.Spec;
        network = new ExportedNetwork(policy);
        if (policy.Normalizer is not null)
            buffers[0] = spec.Inputs;
        foreach (var layer in network.Layers.SkipLast(1))
            if (layer.MemorySize == 0)
                buffers[Turn(layer)] = Math.Max(buffers[Turn(layer)], layer.Size);
    }

    public static void Save(string path, Policy policy)
    {
        var name = Identifier(Path.GetFileNameWithoutExtension(path));
        AtomicFile.WriteText(path, new CExport(policy).Header(name));
    }

    private bool Chooses => spec.Head == Head.Categorical;

    /// <summary>Numbers of the largest output of a layer with a memory, which is written beside the one before.</summary>
    private int Next => network.Layers.Max(layer => layer.MemorySize > 0 ? layer.Size : 0);

    private static int Turn(ExportedLayer layer) => (layer.Index + 1) % 2;

    /// <summary>A name that C takes, and that it does not keep for itself.</summary>
    private static string Identifier(string name)
    {
        var plain = string.Concat(name.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '_')).Trim('_');
        return plain.Length > 0 && char.IsAsciiLetter(plain[0]) ? plain : $"policy_{plain}".TrimEnd('_');
    }

    private string Header(string name)
    {
        Frame();
        Weights();
        Functions();
        Step();
        SelfTest();
        text.Append("#endif\n");
        var code = text.ToString().Replace("@@", name.ToUpperInvariant()).Replace("@", name);
        return Comment().Replace("@@", name.ToUpperInvariant()).Replace("@", name) + Facts() + code;
    }

    private string Comment()
    {
        var tensors = network.Layers.SelectMany(layer => layer.Tensors).ToArray();
        var products = tensors.Where(tensor => tensor.IsMatrix).Sum(tensor => tensor.Length);
        var flash = tensors.Sum(tensor => tensor.Length) + (policy.Normalizer is null ? 0 : 2 * spec.Inputs);
        var bytes = sizeof(float);
        var state = Math.Max(policy.MemorySize, 1);
        var outputs = Chooses ? "logits" : "action";
        return $"""
            /*
             * A policy that was trained with Distill, in C99 without dependencies.
             *
             *     @_state state;
             *     @_reset(&state);                        where an episode starts
             *     @_step(&state, observation, {outputs});    in each step
             *
             * {(
                Chooses
                    ? "A step returns the likeliest choice."
                    : "The action is what the network gives: clamp it to its range ([-1, 1] for rotors) before it is used."
            )}
             * Flash: {bytes * flash} bytes of constants. RAM: {bytes * state} bytes of state, {bytes
                * (buffers.Sum() + Next)} bytes of arrays on the stack.
             * Multiply-adds of a step: {products}.
             *

            """;
    }

    /// <summary>What the policy's file says, untouched by the name.</summary>
    private string Facts() =>
        string.Concat(PolicyFacts.Lines(policy).Select(line => $" * {line}\n")) + " */\n";

    private void Frame()
    {
        text.Append(
            $"""
            #ifndef @@_H
            #define @@_H

            #include <math.h>

            #define @@_OBSERVATIONS {spec.Inputs}
            #define @@_ACTIONS {spec.Outputs}
            #define @@_MEMORY {policy.MemorySize}

            """
        );
        if (PolicyFacts.SecondsOf(policy) is { } seconds)
            text.Append($"#define @@_STEP_SECONDS {Number((float)seconds)}\n");
        text.Append('\n');
    }

    private void Weights()
    {
        if (policy.Normalizer is { } normalizer)
        {
            Constants("mean", $"[{spec.Inputs}]", normalizer.Mean);
            Constants("scale", $"[{spec.Inputs}]", normalizer.Scale);
        }
        foreach (var layer in network.Layers)
        foreach (var tensor in layer.Tensors)
            Constants($"{layer.Index}_{tensor.Name}", $"[{tensor.Length}]", network.Values(layer, tensor));
    }

    private void Functions()
    {
        var layers = network.Layers.Select(layer => layer.Spec).ToArray();
        text.Append(CFunctions.Row);
        if (layers.Any(layer => layer is Dense))
            text.Append(CFunctions.Dense);
        var activations = layers.Select(layer => layer.Nonlinearity ?? Activation.Identity);
        if (spec.Head == Head.SquashedGaussian)
            activations = activations.Append(Activation.Tanh);
        foreach (var activation in activations.Distinct())
            text.Append(CFunctions.Of(activation));
        if (spec.Recurrent)
            text.Append(CFunctions.Sigmoid);
        if (layers.Any(layer => layer is Gru))
            text.Append(CFunctions.Gru);
        if (layers.Any(layer => layer is Lstm))
            text.Append(CFunctions.Lstm);
        text.Append(
            $$"""
            typedef struct {
                float memory[{{Math.Max(policy.MemorySize, 1)}}];{{(
                policy.MemorySize == 0 ? " /* Not used: nothing is kept between steps. */" : ""
            )}}
            } @_state;

            static inline void @_reset(@_state *state)
            {
                for (int i = 0; i < {{Math.Max(policy.MemorySize, 1)}}; i++)
                    state->memory[i] = 0.0f;
            }


            """
        );
    }

    private void Step()
    {
        var outputs = Chooses ? "logits" : "action";
        text.Append($"static inline {(Chooses ? "int" : "void")} @_step(@_state *state, ");
        text.Append($"const float observation[{spec.Inputs}], float {outputs}[{spec.Outputs}])\n{{\n");
        foreach (var (name, size) in new[] { ("even", buffers[0]), ("odd", buffers[1]), ("next", Next) })
            if (size > 0)
                Line($"float {name}[{size}];");
        if (policy.MemorySize == 0)
            Line("(void)state;");
        var x = "observation";
        if (policy.Normalizer is not null)
        {
            Line($"for (int i = 0; i < {spec.Inputs}; i++)");
            Line("    even[i] = (observation[i] - @_mean[i]) * @_scale[i];");
            x = "even";
        }
        var memory = 0;
        foreach (var layer in network.Layers)
        {
            x = Layer(layer, x, memory, outputs);
            memory += layer.MemorySize;
        }
        if (x != outputs)
        {
            Line($"for (int i = 0; i < {spec.Outputs}; i++)");
            Line($"    {outputs}[i] = {x}[i];");
        }
        if (spec.Head == Head.SquashedGaussian)
            Line($"@_tanh(action, {spec.Outputs});");
        if (Chooses)
        {
            Line("int best = 0;");
            Line($"for (int i = 1; i < {spec.Outputs}; i++)");
            Line("    if (logits[i] > logits[best])");
            Line("        best = i;");
            Line("return best;");
        }
        text.Append("}\n\n");
    }

    /// <returns>Where the layer's outputs are.</returns>
    private string Layer(ExportedLayer layer, string x, int memory, string outputs)
    {
        var tensors = string.Join(", ", layer.Tensors.Select(tensor => $"@_{layer.Index}_{tensor.Name}"));
        if (layer.Spec is Dense dense)
        {
            var last = layer.Index == network.Layers.Count - 1;
            var y =
                last ? outputs
                : Turn(layer) == 0 ? "even"
                : "odd";
            Line($"@_dense({tensors}, {x}, {layer.Inputs}, {y}, {layer.Size});");
            if (dense.Activation != Activation.Identity)
                Line($"@_{dense.Kind}({y}, {layer.Size});");
            return y;
        }
        Line(
            $"@_{layer.Spec.Kind}({tensors}, {x}, {layer.Inputs}, state->memory + {memory}, {layer.Size}, next);"
        );
        return $"(state->memory + {memory + layer.MemorySize - layer.Size})";
    }

    private void Line(string line) => text.Append("    ").Append(line).Append('\n');

    private void SelfTest()
    {
        var (observations, outputs) = PolicyExamples.Of(policy, Examples);
        text.Append("#ifdef @@_SELF_TEST\n\n");
        Constants("example_observation", $"[{Examples}][{spec.Inputs}]", observations, braces: spec.Inputs);
        Constants("example_output", $"[{Examples}][{spec.Outputs}]", outputs, braces: spec.Outputs);
        text.Append(
            $$"""
            /* The largest deviation, after a reset, from what Distill gives: some 1e-7; above 1e-4 something is wrong. */
            static inline float @_self_test(void)
            {
                @_state state;
                float output[{{spec.Outputs}}];
                float largest = 0.0f;
                @_reset(&state);
                for (int step = 0; step < {{Examples}}; step++) {
                    @_step(&state, @_example_observation[step], output);
                    for (int i = 0; i < {{spec.Outputs}}; i++)
                        largest = fmaxf(largest, fabsf(output[i] - @_example_output[step][i]));
                }
                return largest;
            }

            #endif

            """
        );
        text.Append('\n');
    }

    private void Constants(string role, string shape, ReadOnlySpan<float> values, int braces = 0)
    {
        text.Append($"static const float @_{role}{shape} = {{");
        for (var i = 0; i < values.Length; i++)
        {
            var column = braces == 0 ? i : i % braces;
            if (braces > 0 && column == 0)
                text.Append(i == 0 ? "\n    {" : "\n    }, {");
            text.Append(column % 8 == 0 ? "\n    " : " ").Append(Number(values[i])).Append(',');
        }
        text.Append(braces > 0 ? "\n    }\n};\n\n" : "\n};\n\n");
    }

    /// <summary>With 9 digits, of which C makes the same float.</summary>
    private static string Number(float value)
    {
        var digits = value.ToString("G9", CultureInfo.InvariantCulture);
        return digits.AsSpan().ContainsAny('.', 'E') ? $"{digits}f" : $"{digits}.0f";
    }
}
