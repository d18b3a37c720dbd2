using Distill.Environments;

namespace Distill.Benchmarks;

/// <summary>The pendulum of <c>native/pendulum.c</c> in C#, line by line, written for panels: what a library is measured against.</summary>
public sealed class Pendulum : IBatchedEnvironment
{
    private const float StepSeconds = 0.05f;
    private const float Gravity = 10;
    private const float MostTorque = 2;
    private const float MostSpeed = 8;
    private const float HalfTurn = 3.14159265f;

    // Rows of a panel's state: angle, angular velocity, steps of the episode, episodes begun.
    private const int Rows = 4;

    private readonly FloatBuffer state;
    private readonly RandomStream random;

    /// <param name="spec">That of the library, so that both are the same task.</param>
    public Pendulum(EnvironmentSpec spec, int envs, ulong seed)
    {
        (Spec, Count) = (spec, envs);
        state = new((long)Panel.Count(envs) * Rows * Panel.Width);
        random = new(seed, "pendulum");
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    public void Reset(int panel)
    {
        for (var lane = 0; lane < Panel.Width; lane++)
            Start(panel, lane);
    }

    public void Observe(int panel, int group, Span<float> observation)
    {
        var own = StateOf(panel);
        var seen = new Panel(observation, Spec.Groups[group].Size);
        var cosine = seen.Row(0);
        var sine = seen.Row(1);
        var angle = own.Row(0);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            cosine[lane] = MathF.Cos(angle[lane]);
            sine[lane] = MathF.Sin(angle[lane]);
        }
        if (seen.Features > 2)
            own.Row(1).CopyTo(seen.Row(2));
    }

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        var own = StateOf(panel);
        var angles = own.Row(0);
        var speeds = own.Row(1);
        var steps = own.Row(2);
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var (angle, speed) = (angles[lane], speeds[lane]);
            var torque = MostTorque * Clip(actions[lane], 1);
            outcome.Reward[lane] = -(angle * angle + 0.1f * speed * speed + 0.001f * torque * torque);
            speed += (1.5f * Gravity * MathF.Sin(angle) + 3 * torque) * StepSeconds;
            speed = Clip(speed, MostSpeed);
            angle += speed * StepSeconds;
            if (angle > HalfTurn)
                angle -= 2 * HalfTurn;
            else if (angle < -HalfTurn)
                angle += 2 * HalfTurn;
            (angles[lane], speeds[lane]) = (angle, speed);
            if (outcome.Measures.Length > 0)
                outcome.Measures[lane] = MathF.Abs(angle);
            outcome.Terminated[lane] = 0;
            outcome.Truncated[lane] = ++steps[lane] >= Spec.EpisodeLimit ? 1 : 0;
        }
        for (var lane = 0; lane < Panel.Width; lane++)
            if (outcome.Truncated[lane] != 0)
                Start(panel, lane);
    }

    public void Rewind() => state.Span.Clear();

    public void Visit(State state) => state.Block("pendulum.state", this.state);

    public void Dispose() => state.Dispose();

    private static float Clip(float value, float limit) =>
        value > limit ? limit
        : value < -limit ? -limit
        : value;

    private void Start(int panel, int lane)
    {
        var own = StateOf(panel);
        var (environment, episode) = ((uint)(panel * Panel.Width + lane), (uint)own[3, lane]++);
        own[0, lane] = HalfTurn * (2 * random.Uniform(environment, episode) - 1);
        own[1, lane] = 2 * random.Uniform(environment, episode, 0, 1) - 1;
        own[2, lane] = 0;
    }

    private Panel StateOf(int panel) => Panel.At(state.Span, panel, Rows);
}
