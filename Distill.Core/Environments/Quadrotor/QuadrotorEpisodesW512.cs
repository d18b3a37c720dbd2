using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Distill.Compute.VectorsW512;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>Ends and beginnings of episodes.</summary>
internal static class QuadrotorEpisodesW512
{
    /// <summary>Counts the step and marks ends of episodes; a state that is not a number is terminal.</summary>
    /// <returns>Whether an episode of the panel ended.</returns>
    public static bool Terminate(
        QuadrotorRules rules,
        ref float state,
        ref float constants,
        ref float reward,
        ref float terminated,
        ref float truncated
    )
    {
        var relative = Vector512.Create(rules.Motion == ReferenceMotion.FigureEight ? 1f : 0f);
        var limit = Vector512.Create((float)rules.EpisodeLimit);
        var any = Vector512<float>.Zero;
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var position = FusedMultiplyAdd(
                -relative,
                Load3(ref state, ReferencePosition, lane),
                Load3(ref state, Position, lane)
            );
            var velocity = FusedMultiplyAdd(
                -relative,
                Load3(ref state, ReferenceVelocity, lane),
                Load3(ref state, Velocity, lane)
            );
            var fine =
                Within(position, ref constants, PositionThreshold, lane)
                & Within(velocity, ref constants, VelocityThreshold, lane)
                & Within(
                    Load3(ref state, AngularVelocity, lane),
                    ref constants,
                    AngularVelocityThreshold,
                    lane
                );
            var step = Load(ref state, QuadrotorField.Step, lane) + Vector512<float>.One;
            var end = Vector512.AndNot(Vector512<float>.One, fine);
            var cut = Vector512<float>.One & fine & Vector512.GreaterThanOrEqual(step, limit);
            Store(step, ref state, QuadrotorField.Step, lane);
            Store(end, ref terminated, 0, lane);
            Store(cut, ref truncated, 0, lane);
            var value = Vector512.MaxNative(
                Load(ref reward, 0, lane),
                Load(ref constants, RewardFloor, lane)
            );
            value = Vector512.ConditionalSelect(fine, value, Load(ref constants, TerminationPenalty, lane));
            Store(value, ref reward, 0, lane);
            any |= end | cut;
        }
        return any != Vector512<float>.Zero;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Within(
        Vector3W512 v,
        ref float constants,
        QuadrotorConstant threshold,
        nuint lane
    ) => Vector512.LessThanOrEqual(Largest(v), Load(ref constants, threshold, lane));

    /// <summary>
    /// A new episode in every lane where one of the two marks is set. Drawing a start costs the same for one lane as for
    /// all lanes of a vector, so <paramref name="next"/>, a panel's state, keeps those of the lanes that go on until their
    /// turn comes. Its episode says which one a lane holds; a missing one is drawn.
    /// </summary>
    public static void Restart(
        RandomStream stream,
        int first,
        ref float state,
        ref float next,
        ref float constants,
        ref float terminated,
        ref float truncated
    )
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var ended = Load(ref terminated, 0, lane) + Load(ref truncated, 0, lane);
            var mask = Vector512.GreaterThan(ended, Vector512<float>.Zero);
            if (mask.AsUInt32() == Vector512<uint>.Zero)
                continue;
            var episode = Load(ref state, Episode, lane) + Vector512<float>.One;
            var missing = Vector512.AndNot(mask, Vector512.Equals(Load(ref next, Episode, lane), episode));
            if (missing.AsUInt32() != Vector512<uint>.Zero)
            {
                Store(episode, ref next, Episode, lane);
                DrawStart(stream, Indices(first, lane), ref next, ref constants, lane);
            }
            for (var row = 0; row < QuadrotorFields.Total; row++)
                Blend(Load(ref next, row, lane), mask, ref state, row, lane);
        }
    }

    /// <summary>The first state of the episode that <paramref name="state"/> names; rows that start at zero stay so.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void DrawStart(
        RandomStream stream,
        Vector512<uint> environments,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        PlaceBody(stream, environments, ref state, ref constants, lane);
        SpinRotors(stream, environments, ref state, ref constants, lane);
        DrawDisturbance(stream, environments, 4, ref state, Force, ref constants, ForceMean, lane);
        DrawDisturbance(stream, environments, 5, ref state, Torque, ref constants, TorqueMean, lane);
        var yaw = Load(ref constants, TorqueMean, lane);
        yaw += (Load(ref state, Torque + 2, lane) - yaw) * Vector512.Create(0.01f);
        Store(yaw, ref state, Torque + 2, lane);
    }

    /// <summary>Four words for one draw of the episode that begins.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Draw(
        RandomStream stream,
        Vector512<uint> environments,
        uint draw,
        ref float state,
        nuint lane,
        out Vector512<uint> x0,
        out Vector512<uint> x1,
        out Vector512<uint> x2,
        out Vector512<uint> x3
    )
    {
        // On locals, which live in registers; the parameters are memory.
        var a = environments;
        var b = Vector512.ConvertToInt32(Load(ref state, Episode, lane)).AsUInt32();
        var c = Vector512.Create(draw);
        var d = Vector512<uint>.Zero;
        RandomW512.Bits(stream, ref a, ref b, ref c, ref d);
        (x0, x1, x2, x3) = (a, b, c, d);
    }

    /// <summary>Position, velocities and orientation: uniform, or at rest in the origin in the guided share of episodes.</summary>
    private static void PlaceBody(
        RandomStream stream,
        Vector512<uint> environments,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        Draw(stream, environments, 0, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        var free = Vector512.GreaterThanOrEqual(RandomW512.Uniform(x3), Load(ref constants, Guidance, lane));
        var limit = Load(ref constants, InitialPosition, lane) & free;
        Store(limit * Symmetric(x0, x1, x2), ref state, Position, lane);

        Draw(stream, environments, 1, ref state, lane, out x0, out x1, out x2, out x3);
        limit = Load(ref constants, InitialVelocity, lane) & free;
        Store(limit * Symmetric(x0, x1, x2), ref state, Velocity, lane);
        var angle = RandomW512.Uniform(x3) * Load(ref constants, InitialTurns, lane) & free;

        Draw(stream, environments, 2, ref state, lane, out x0, out x1, out x2, out x3);
        limit = Load(ref constants, InitialAngularVelocity, lane) & free;
        Store(limit * Symmetric(x0, x1, x2), ref state, AngularVelocity, lane);

        // The axis is uniform on the sphere: its height is uniform, and so is its longitude.
        var height = Symmetric(x3);
        Draw(stream, environments, 6, ref state, lane, out x0, out x1, out x2, out x3);
        var radius = Vector512.Sqrt(
            Vector512.MaxNative(Vector512<float>.One - height * height, Vector512<float>.Zero)
        );
        MathW512.SinCosTurns(RandomW512.Uniform(x0), out var sin, out var cos);
        MathW512.SinCosTurns(angle, out var sinHalf, out var cosHalf);
        StoreOrientation(
            new(cosHalf, sinHalf * radius * cos, sinHalf * radius * sin, sinHalf * height),
            ref state,
            lane
        );

        var follows = Vector512.LessThan(RandomW512.Uniform(x1), Load(ref constants, LangevinShare, lane));
        Store(Vector512<float>.One & follows, ref state, FollowsLangevin, lane);
    }

    /// <summary>Uniform on [-1, 1).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Symmetric(Vector512<uint> bits)
    {
        var uniform = RandomW512.Uniform(bits);
        return uniform + uniform - Vector512<float>.One;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector3W512 Symmetric(Vector512<uint> x, Vector512<uint> y, Vector512<uint> z) =>
        new(Symmetric(x), Symmetric(y), Symmetric(z));

    /// <summary>Rotor states, and as previous action the actions that would command them.</summary>
    private static void SpinRotors(
        RandomStream stream,
        Vector512<uint> environments,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        Draw(stream, environments, 3, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        SpinRotor(x0, 0, ref state, ref constants, lane);
        SpinRotor(x1, 1, ref state, ref constants, lane);
        SpinRotor(x2, 2, ref state, ref constants, lane);
        SpinRotor(x3, 3, ref state, ref constants, lane);
    }

    private static void SpinRotor(
        Vector512<uint> bits,
        int rotor,
        ref float state,
        ref float constants,
        nuint lane
    )
    {
        var w = Vector512.FusedMultiplyAdd(
            RandomW512.Uniform(bits),
            Load(ref constants, InitialRotorRange, lane),
            Load(ref constants, InitialRotorMin, lane)
        );
        Store(w, ref state, QuadrotorField.Rotors + rotor, lane);
        Store(AsAction(w, ref constants, lane), ref state, PreviousAction + rotor, lane);
    }

    /// <summary>Three normal components; the constant after the mean is the standard deviation.</summary>
    private static void DrawDisturbance(
        RandomStream stream,
        Vector512<uint> environments,
        uint draw,
        ref float state,
        QuadrotorField field,
        ref float constants,
        QuadrotorConstant mean,
        nuint lane
    )
    {
        var centre = Load(ref constants, mean, lane);
        var deviation = Load(ref constants, mean + 1, lane);
        if (deviation == Vector512<float>.Zero)
        {
            Store(new Vector3W512(centre, centre, centre), ref state, field, lane);
            return;
        }
        Draw(stream, environments, draw, ref state, lane, out var x0, out var x1, out var x2, out var x3);
        RandomW512.Normal(x0, x1, out var a, out var b);
        RandomW512.Normal(x2, x3, out var c, out _);
        var force = FusedMultiplyAdd(deviation, new(a, b, c), new Vector3W512(centre, centre, centre));
        Store(force, ref state, field, lane);
    }
}
