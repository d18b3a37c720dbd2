namespace Distill.Environments.External;

/// <summary>
/// The simulators that this process has. What one says of itself is known without starting it twice, the one that was started to ask
/// serves the first environments that it fits, and environments that share one have the same.
/// </summary>
internal static class ExternalSimulators
{
    private static readonly Lock gate = new();
    private static readonly Dictionary<ExternalConfig, ExternalFacts> known = [];
    private static readonly Dictionary<ExternalConfig, Shared> shared = [];

    // Started to be asked, and used by nobody yet.
    private static (ExternalConfig Config, ExternalSimulator Simulator)? spare;

    static ExternalSimulators() => AppDomain.CurrentDomain.ProcessExit += (_, _) => DropSpare();

    /// <summary>What the simulator says of itself.</summary>
    /// <exception cref="DistillException">It cannot be started or reached, or not be used.</exception>
    public static ExternalFacts Facts(ExternalConfig config)
    {
        config.Check();
        lock (gate)
        {
            if (known.TryGetValue(config, out var facts))
                return facts;
            if (shared.TryGetValue(config, out var running))
                return known[config] = running.Simulator.Facts;
            spare = (config, Make(config, config.Envs));
            return known[config] = spare.Value.Simulator.Facts;
        }
    }

    /// <summary>A simulator for environments, until <see cref="Return"/>.</summary>
    /// <param name="envs">How many are asked for; one that is shared has as many as training has.</param>
    /// <exception cref="DistillException">It cannot be started or reached, or not be used, or is another than it was.</exception>
    public static ExternalSimulator Take(ExternalConfig config, int envs)
    {
        if (!config.UsesOne)
            return TakeSpare(config, envs) ?? Make(config, envs);
        lock (gate)
        {
            if (!shared.TryGetValue(config, out var running))
                running = new Shared(TakeSpare(config, config.Envs) ?? Make(config, config.Envs), 0);
            shared[config] = running with { Users = running.Users + 1 };
            return running.Simulator;
        }
    }

    /// <summary>Ends a simulator that nobody else uses.</summary>
    public static void Return(ExternalConfig config, ExternalSimulator simulator)
    {
        lock (gate)
            if (config.UsesOne)
            {
                var users = shared[config].Users - 1;
                shared[config] = new Shared(simulator, users);
                if (users > 0)
                    return;
                shared.Remove(config);
            }
        simulator.Dispose();
    }

    private static ExternalSimulator? TakeSpare(ExternalConfig config, int envs)
    {
        lock (gate)
        {
            if (spare is not { } one || one.Config != config || envs != config.Envs)
                return null;
            spare = null;
            return one.Simulator;
        }
    }

    private static ExternalSimulator Make(ExternalConfig config, int envs)
    {
        // One that waits at a socket serves one connection at a time.
        DropSpare();
        var simulator = new ExternalSimulator(config, envs);
        try
        {
            if (envs == config.Envs)
                CheckNumber(config, simulator.Facts);
            bool another;
            lock (gate)
            {
                another = known.TryGetValue(config, out var before) && before.Text != simulator.Facts.Text;
                known[config] = simulator.Facts;
            }
            if (another)
                throw new DistillException(
                    $"The simulator {config.Title} has other observations, actions or limits than when it was first asked; run this again."
                );
            return simulator;
        }
        catch
        {
            simulator.Dispose();
            throw;
        }
    }

    private static void CheckNumber(ExternalConfig config, ExternalFacts facts)
    {
        if (facts.Envs != config.Envs)
            throw new DistillException(
                $"The simulator {config.Title} has {facts.Envs} environments, not {config.Envs}: add envs={facts.Envs}, or let make(envs, seed) make as many as it is asked for."
            );
    }

    private static void DropSpare()
    {
        lock (gate)
        {
            spare?.Simulator.Dispose();
            spare = null;
        }
    }

    private sealed record Shared(ExternalSimulator Simulator, int Users);
}
