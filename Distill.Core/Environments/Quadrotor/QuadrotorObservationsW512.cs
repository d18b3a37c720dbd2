using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Distill.Environments.Quadrotor.QuadrotorField;
using static Distill.Environments.Quadrotor.QuadrotorRowsW512;
using static Distill.Environments.RowsW512;

namespace Distill.Environments.Quadrotor;

/// <summary>What can be seen of a panel: components of observations, and measures.</summary>
internal static class QuadrotorObservationsW512
{
    /// <summary>Writes the components one after the other.</summary>
    public static void Observe(
        ReadOnlySpan<QuadrotorComponent> components,
        ref float state,
        ref float constants,
        ref float observation
    )
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            ref var rows = ref observation;
            foreach (var component in components)
            {
                var size = component switch
                {
                    QuadrotorComponent.Position => Put(Absolute(ref state, Position, lane), ref rows, lane),
                    QuadrotorComponent.PositionError => Put(PositionError(ref state, lane), ref rows, lane),
                    QuadrotorComponent.Rotation => PutRotation(
                        LoadOrientation(ref state, lane),
                        ref rows,
                        lane
                    ),
                    QuadrotorComponent.Velocity => Put(Absolute(ref state, Velocity, lane), ref rows, lane),
                    QuadrotorComponent.VelocityError => Put(VelocityError(ref state, lane), ref rows, lane),
                    QuadrotorComponent.AngularVelocity => Put(
                        Load3(ref state, AngularVelocity, lane),
                        ref rows,
                        lane
                    ),
                    QuadrotorComponent.PreviousAction => PutActions(ref state, ref rows, lane),
                    QuadrotorComponent.Rotors => PutRotors(ref state, ref constants, ref rows, lane),
                    QuadrotorComponent.Disturbance => Put(
                        Load(ref constants, QuadrotorConstant.InverseMass, lane)
                            * Load3(ref state, Force, lane),
                        ref rows,
                        lane
                    ),
                    _ => PutParameters(ref constants, ref rows, lane),
                };
                rows = ref Unsafe.Add(ref rows, size * Panel.Width);
            }
        }
    }

    /// <summary>The rows of <see cref="QuadrotorViews.Measures"/>.</summary>
    public static void Measure(ref float state, ref float measures)
    {
        for (nuint lane = 0; lane < Panel.Width; lane += Lanes)
        {
            Store(VectorsW512.Length(PositionError(ref state, lane)), ref measures, 0, lane);
            Store(VectorsW512.Length(VelocityError(ref state, lane)), ref measures, 1, lane);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 PositionError(ref float state, nuint lane) =>
        Load3(ref state, Position, lane) - Load3(ref state, ReferencePosition, lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector3W512 VelocityError(ref float state, nuint lane) =>
        Load3(ref state, Velocity, lane) - Load3(ref state, ReferenceVelocity, lane);

    /// <summary>Adding 0 makes 0 of -0, with which some episodes start.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector3W512 Absolute(ref float state, QuadrotorField field, nuint lane) =>
        Load3(ref state, field, lane) + default(Vector3W512);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Put(Vector3W512 v, ref float rows, nuint lane)
    {
        Store(v, ref rows, 0, lane);
        return 3;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PutActions(ref float state, ref float rows, nuint lane)
    {
        Store(Load3(ref state, PreviousAction, lane), ref rows, 0, lane);
        Store(Load(ref state, PreviousAction + 3, lane), ref rows, 3, lane);
        return 4;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PutRotors(ref float state, ref float constants, ref float rows, nuint lane)
    {
        for (var rotor = 0; rotor < 4; rotor++)
        {
            var w = Load(ref state, QuadrotorField.Rotors + rotor, lane);
            Store(AsAction(w, ref constants, lane), ref rows, rotor, lane);
        }
        return 4;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PutParameters(ref float constants, ref float rows, nuint lane)
    {
        for (var i = 0; i < DroneParameters.Total; i++)
            Store(Load(ref constants, QuadrotorConstant.Parameters + i, lane), ref rows, i, lane);
        return DroneParameters.Total;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PutRotation(QuaternionW512 q, ref float rows, nuint lane)
    {
        var one = Vector512<float>.One;
        var (w, x, y, z) = (q.W, q.X, q.Y, q.Z);
        var (x2, y2, z2) = (x + x, y + y, z + z);
        Store(one - Vector512.FusedMultiplyAdd(y, y2, z * z2), ref rows, 0, lane);
        Store(x * y2 - w * z2, ref rows, 1, lane);
        Store(Vector512.FusedMultiplyAdd(x, z2, w * y2), ref rows, 2, lane);
        Store(Vector512.FusedMultiplyAdd(x, y2, w * z2), ref rows, 3, lane);
        Store(one - Vector512.FusedMultiplyAdd(x, x2, z * z2), ref rows, 4, lane);
        Store(y * z2 - w * x2, ref rows, 5, lane);
        Store(x * z2 - w * y2, ref rows, 6, lane);
        Store(Vector512.FusedMultiplyAdd(y, z2, w * x2), ref rows, 7, lane);
        Store(one - Vector512.FusedMultiplyAdd(x, x2, y * y2), ref rows, 8, lane);
        return 9;
    }
}
