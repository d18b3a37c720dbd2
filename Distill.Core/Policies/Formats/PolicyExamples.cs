namespace Distill.Policies;

/// <summary>What a policy gives for a few made-up observations, so that whoever runs an export can check it.</summary>
internal static class PolicyExamples
{
    /// <summary>Steps one after another from an empty memory.</summary>
    /// <returns>Observations <c>[steps, inputs]</c> and actions, or the logits of choices, <c>[steps, outputs]</c>.</returns>
    public static (float[] Observations, float[] Outputs) Of(Policy policy, int steps)
    {
        var spec = policy.Network.Spec;
        var stream = new RandomStream(0, "examples of an export");
        var observations = new float[steps * spec.Inputs];
        var outputs = new float[steps * spec.Outputs];
        using var own = new Workspace();
        using var scope = own.Open();
        var observation = own.Panel(spec.Inputs);
        var memory = own.Panel(policy.MemorySize);
        var action = own.Panel(policy.ActionFloats);
        observation.Values.Clear();
        memory.Values.Clear();
        for (var step = 0; step < steps; step++)
        {
            for (var i = 0; i < spec.Inputs; i++)
            {
                var value = 2 * stream.Uniform((uint)i, (uint)step) - 1;
                // Within what the policy has seen.
                if (policy.Normalizer is { } normalizer)
                    value = normalizer.Mean[i] + value * MathF.Sqrt(normalizer.Variance[i]);
                observations[step * spec.Inputs + i] = observation[i, 0] = value;
            }
            var raw = policy.Forward(observation, memory, own);
            policy.Decide(raw, action);
            for (var i = 0; i < spec.Outputs; i++)
                outputs[step * spec.Outputs + i] =
                    spec.Head == Networks.Head.Categorical ? raw[i, 0] : action[i, 0];
        }
        return (observations, outputs);
    }
}
