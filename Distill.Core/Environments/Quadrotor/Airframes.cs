using System.Text.Json;

namespace Distill.Environments.Quadrotor;

/// <summary>
/// The named airframes of rl-tools' registry (commit e43ae4bc, and two of a later revision), with all their digits.
/// All have the default task: reward constant 1.5, thresholds of 1 m, 2 m/s and 35 rad/s, no disturbances.
/// </summary>
public static class Airframes
{
    private static readonly Dictionary<string, Airframe> Registry = Load();

    /// <summary>All names, in the order of the data file.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Registry.Keys];

    /// <exception cref="DistillException">There is no airframe of that name.</exception>
    public static QuadrotorParameters Get(string name) =>
        Registry.TryGetValue(name, out var airframe)
            ? airframe.Parameters(name)
            : throw new DistillException(
                $"There is no airframe '{name}'; the airframes are: {string.Join(", ", Names)}."
            );

    private static Dictionary<string, Airframe> Load()
    {
        using var stream = typeof(Airframes).Assembly.GetManifestResourceStream("airframes.json")!;
        return JsonSerializer.Deserialize<Dictionary<string, Airframe>>(stream, ParameterFile.Json)!;
    }

    /// <summary>What sets an airframe of the registry apart: four equal rotors in a rectangle, diagonal inertia.</summary>
    private sealed record Airframe(
        string Note,
        double Mass,
        double[] RotorOffset,
        double[] ThrustCoefficients,
        double TorqueConstant,
        double TimeConstantRising,
        double TimeConstantFalling,
        double[] Inertia,
        double HoveringThrottle,
        double[]? InertiaInverse = null,
        double[]? ActionLimit = null
    )
    {
        public QuadrotorParameters Parameters(string name)
        {
            var (x, y) = (RotorOffset[0], RotorOffset[1]);
            return new()
            {
                Name = name,
                Dynamics = new()
                {
                    RotorPositions =
                    [
                        [x, -y, 0],
                        [-x, -y, 0],
                        [-x, y, 0],
                        [x, y, 0],
                    ],
                    RotorThrustCoefficients = Four<double[]>([.. ThrustCoefficients]),
                    RotorTorqueConstants = Four(TorqueConstant),
                    RotorTimeConstantsRising = Four(TimeConstantRising),
                    RotorTimeConstantsFalling = Four(TimeConstantFalling),
                    Mass = Mass,
                    J = Diagonal(Inertia),
                    JInv = Diagonal(InertiaInverse ?? Array.ConvertAll(Inertia, one => 1 / one)),
                    HoveringThrottleRelative = HoveringThrottle,
                    ActionLimit = ActionLimit is [var min, var max] ? new() { Min = min, Max = max } : new(),
                },
            };
        }

        private static T[] Four<T>(T value) => [value, value, value, value];

        private static double[][] Diagonal(double[] values) =>
            [
                [values[0], 0, 0],
                [0, values[1], 0],
                [0, 0, values[2]],
            ];
    }
}
