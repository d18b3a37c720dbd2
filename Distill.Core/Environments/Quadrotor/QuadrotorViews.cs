namespace Distill.Environments.Quadrotor;

/// <summary>What can be seen of quadrotors: the observation groups, and the measures of a step.</summary>
internal static class QuadrotorViews
{
    public static readonly View[] All =
    [
        new("teacher", Relative: true, Rotors: true),
        new("student", Relative: false, Rotors: false),
        new("tracking", Relative: true, Rotors: false),
    ];

    public static readonly IReadOnlyList<ObservationGroup> Groups = Array.ConvertAll(
        All,
        view => view.Group()
    );

    /// <summary>Distance of the drone to its reference, and the length of the difference of their velocities.</summary>
    public static readonly IReadOnlyList<EnvironmentMeasure> Measures =
    [
        new("position_error", "m", MeasureOver.Mean),
        new("velocity_error", "m/s", MeasureOver.Mean),
    ];

    /// <summary>What an observation group shows of the state.</summary>
    public sealed record View(string Name, bool Relative, bool Rotors)
    {
        public ObservationGroup Group()
        {
            var of = Relative ? " error" : "";
            List<ObservationComponent> components =
            [
                new($"position{of}, world, m", 3),
                new("rotation matrix, body to world, row-major", 9),
                new($"linear velocity{of}, world, m/s", 3),
                new("angular velocity, body, rad/s", 3),
                new("previous action", 4),
            ];
            if (Rotors)
                components.Add(new("rotor states, mapped to [-1, 1]", 4));
            return new(Name, components);
        }
    }
}
