using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Distill.Compute.VectorsW512;
using static Distill.Environments.Quadrotor.QuadrotorConstant;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>How the references of a panel move in one step.</summary>
internal static class QuadrotorReferencesW512
{
    /// <summary>Three standard normal draws for each lane into rows 0-2.</summary>
    public static void DrawNoise(RandomStream stream, int first, ref float state, ref float noise)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var x0 = Indices(first, lane);
            var x1 = Vector512.ConvertToInt32(Load(ref state, Episode, lane)).AsUInt32();
            var x2 = Vector512.ConvertToInt32(Load(ref state, QuadrotorField.Step, lane)).AsUInt32();
            var x3 = Vector512<uint>.Zero;
            RandomW512.Bits(stream, ref x0, ref x1, ref x2, ref x3);
            RandomW512.Normal(x0, x1, out var a, out var b);
            RandomW512.Normal(x2, x3, out var c, out _);
            Store(new Vector3W512(a, b, c), ref noise, 0, lane);
        }
    }

    /// <summary>Semi-implicit Euler-Maruyama, then smoothing; lanes with a fixed reference keep it.</summary>
    public static void AdvanceLangevin(ref float state, ref float constants, ref float noise)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var follows = Vector512.GreaterThan(
                Load(ref state, FollowsLangevin, lane),
                Vector512<float>.Zero
            );
            var dt = Load(ref constants, TimeStep, lane);
            var x = Load3(ref state, LangevinPosition, lane);
            var v = Load3(ref state, LangevinVelocity, lane);
            var pull = FusedMultiplyAdd(
                Load(ref constants, LangevinDamping, lane),
                v,
                Load(ref constants, LangevinStiffness, lane) * x
            );
            v = FusedMultiplyAdd(
                Load(ref constants, LangevinNoise, lane),
                Load3(ref noise, 0, lane),
                v - dt * pull
            );
            x = FusedMultiplyAdd(dt, v, x);
            var smoothV = Load3(ref state, ReferenceVelocity, lane);
            smoothV = FusedMultiplyAdd(Load(ref constants, LangevinSmoothing, lane), v - smoothV, smoothV);
            var smoothX = FusedMultiplyAdd(dt, smoothV, Load3(ref state, ReferencePosition, lane));
            Store(x & follows, ref state, LangevinPosition, lane);
            Store(v & follows, ref state, LangevinVelocity, lane);
            Store(smoothX & follows, ref state, ReferencePosition, lane);
            Store(smoothV & follows, ref state, ReferenceVelocity, lane);
        }
    }

    /// <summary>The reference of the next step on the Lissajous curve; see <see cref="FigureEight"/>.</summary>
    public static void AdvanceFigureEight(QuadrotorRules rules, ref float state, ref float constants)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            var dt = Load(ref constants, TimeStep, lane);
            var time = dt * (Load(ref state, QuadrotorField.Step, lane) + Vector512<float>.One);
            var ramp = Vector512.Create(rules.LoopRamp);
            var inRamp = Vector512.MinNative(time, ramp);
            var share = inRamp / ramp;
            // Loops so far: half of the ramp's time counts, because the rate grows linearly.
            var loops = Vector512.FusedMultiplyAdd(share * Vector512.Create(0.5f), inRamp, time - inRamp);
            loops *= Vector512.Create(rules.LoopRate);
            MathW512.SinCosTurns(loops - Vector512.Floor(loops), out var sin, out var cos);
            var size = Vector512.Create(rules.LoopSize);
            var speed = size * share * Vector512.Create(MathF.Tau * rules.LoopRate);
            Store(size * sin * cos, ref state, ReferencePosition, lane);
            Store(size * sin, ref state, ReferencePosition + 1, lane);
            Store(speed * (cos * cos - sin * sin), ref state, ReferenceVelocity, lane);
            Store(speed * cos, ref state, ReferenceVelocity + 1, lane);
        }
    }
}
