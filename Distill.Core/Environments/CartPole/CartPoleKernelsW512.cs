using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.CartPole;

/// <summary>
/// Gym's CartPole-v1 (Barto, Sutton and Anderson, 1983) on one panel. Rows of the state: 0 cart position (m), 1 cart
/// velocity (m/s), 2 pole angle (rad), 3 pole angular velocity (rad/s), 4 step, 5 episode.
/// </summary>
internal sealed class CartPoleKernelsW512 : CartPoleKernels
{
    private const float Gravity = 9.8f;
    private const float PoleMass = 0.1f;
    private const float TotalMass = 1.1f;
    private const float HalfLength = 0.5f;
    private const float PoleMassLength = PoleMass * HalfLength;
    private const float ForceMagnitude = 10;
    private const float PositionLimit = 2.4f;
    private const float AngleLimit = (float)(12 * Math.Tau / 360);

    public override void Step(
        int episodeLimit,
        RandomStream stream,
        int first,
        Span<float> state,
        ReadOnlySpan<float> actions,
        StepOutcome outcome
    )
    {
        ref var s = ref MemoryMarshal.GetReference(state[..(CartPoleEnvironment.Rows * Panel.Width)]);
        ref var end = ref MemoryMarshal.GetReference(outcome.Terminated);
        ref var cut = ref MemoryMarshal.GetReference(outcome.Truncated);
        Move(ref s, ref MemoryMarshal.GetReference(actions[..Panel.Width]));
        outcome.Reward.Fill(1);
        if (Terminate(episodeLimit, ref s, ref end, ref cut))
            Restart(stream, first, ref s, ref end, ref cut);
    }

    public override void Reset(RandomStream stream, int first, Span<float> state)
    {
        Span<float> ended = stackalloc float[Panel.Width];
        ended.Fill(1);
        ref var end = ref MemoryMarshal.GetReference(ended);
        Restart(stream, first, ref MemoryMarshal.GetReference(state), ref end, ref end);
    }

    /// <summary>Explicit Euler: positions move with the old velocities.</summary>
    private static void Move(ref float state, ref float actions)
    {
        var dt = Vector512.Create((float)CartPoleConfig.StepSeconds);
        var perMass = Vector512.Create(1 / TotalMass);
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var x = Load(ref state, 0, lane);
            var v = Load(ref state, 1, lane);
            var angle = Load(ref state, 2, lane);
            var rate = Load(ref state, 3, lane);
            var right = Vector512.GreaterThan(Load(ref actions, 0, lane), Vector512.Create(0.5f));
            var force = Vector512.ConditionalSelect(
                right,
                Vector512.Create(ForceMagnitude),
                Vector512.Create(-ForceMagnitude)
            );

            MathW512.SinCosTurns(
                Vector512.Abs(angle) * Vector512.Create(1 / MathF.Tau),
                out var sin,
                out var cos
            );
            sin ^= angle & Vector512.Create(-0f);
            var push =
                Vector512.FusedMultiplyAdd(Vector512.Create(PoleMassLength) * rate * rate, sin, force)
                * perMass;
            var inertia = Vector512.Create(4f / 3f) - Vector512.Create(PoleMass) * cos * cos * perMass;
            var angular =
                (Vector512.Create(Gravity) * sin - cos * push) / (Vector512.Create(HalfLength) * inertia);
            var acceleration = push - Vector512.Create(PoleMassLength) * angular * cos * perMass;

            Store(Vector512.FusedMultiplyAdd(dt, v, x), ref state, 0, lane);
            Store(Vector512.FusedMultiplyAdd(dt, acceleration, v), ref state, 1, lane);
            Store(Vector512.FusedMultiplyAdd(dt, rate, angle), ref state, 2, lane);
            Store(Vector512.FusedMultiplyAdd(dt, angular, rate), ref state, 3, lane);
        }
    }

    /// <summary>Counts the step and marks ends of episodes.</summary>
    /// <returns>Whether an episode of the panel ended.</returns>
    private static bool Terminate(
        int episodeLimit,
        ref float state,
        ref float terminated,
        ref float truncated
    )
    {
        var one = Vector512<float>.One;
        var limit = Vector512.Create((float)episodeLimit);
        var any = Vector512<float>.Zero;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var position = Vector512.Abs(Load(ref state, 0, lane));
            var angle = Vector512.Abs(Load(ref state, 2, lane));
            var fine =
                Vector512.LessThanOrEqual(position, Vector512.Create(PositionLimit))
                & Vector512.LessThanOrEqual(angle, Vector512.Create(AngleLimit));
            var step = Load(ref state, 4, lane) + one;
            var end = Vector512.AndNot(one, fine);
            var cut = one & fine & Vector512.GreaterThanOrEqual(step, limit);
            Store(step, ref state, 4, lane);
            Store(end, ref terminated, 0, lane);
            Store(cut, ref truncated, 0, lane);
            any |= end | cut;
        }
        return any != Vector512<float>.Zero;
    }

    /// <summary>A new episode in every lane where one of the two marks is set; each number is uniform within 0.05.</summary>
    private static void Restart(
        RandomStream stream,
        int first,
        ref float state,
        ref float terminated,
        ref float truncated
    )
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var ended = Load(ref terminated, 0, lane) + Load(ref truncated, 0, lane);
            var mask = Vector512.GreaterThan(ended, Vector512<float>.Zero);
            var episode = Load(ref state, 5, lane) + (Vector512<float>.One & mask);
            var x0 = Indices(first, lane);
            var x1 = Vector512.ConvertToInt32(episode).AsUInt32();
            var x2 = Vector512<uint>.Zero;
            var x3 = Vector512<uint>.Zero;
            RandomW512.Bits(stream, ref x0, ref x1, ref x2, ref x3);
            Blend(Initial(x0), mask, ref state, 0, lane);
            Blend(Initial(x1), mask, ref state, 1, lane);
            Blend(Initial(x2), mask, ref state, 2, lane);
            Blend(Initial(x3), mask, ref state, 3, lane);
            Blend(Vector512<float>.Zero, mask, ref state, 4, lane);
            Store(episode, ref state, 5, lane);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Initial(Vector512<uint> bits) =>
        Vector512.FusedMultiplyAdd(
            RandomW512.Uniform(bits),
            Vector512.Create(0.1f),
            Vector512.Create(-0.05f)
        );
}
