namespace Distill.Environments.Quadrotor;

/// <summary>A part of an observation; errors are relative to the reference.</summary>
internal enum QuadrotorComponent
{
    Position,
    PositionError,
    Rotation,
    Velocity,
    VelocityError,
    AngularVelocity,
    PreviousAction,
    Rotors,
}

/// <summary>What can be seen of quadrotors: the observation groups, and the measures of a step.</summary>
internal static class QuadrotorViews
{
    /// <summary>Names of the groups, and what each shows.</summary>
    public static readonly (string Name, QuadrotorComponent[] Components)[] All =
    [
        (
            "teacher",
            [
                QuadrotorComponent.PositionError,
                QuadrotorComponent.Rotation,
                QuadrotorComponent.VelocityError,
                QuadrotorComponent.AngularVelocity,
                QuadrotorComponent.PreviousAction,
                QuadrotorComponent.Rotors,
            ]
        ),
        (
            "student",
            [
                QuadrotorComponent.Position,
                QuadrotorComponent.Rotation,
                QuadrotorComponent.Velocity,
                QuadrotorComponent.AngularVelocity,
                QuadrotorComponent.PreviousAction,
            ]
        ),
        (
            "tracking",
            [
                QuadrotorComponent.PositionError,
                QuadrotorComponent.Rotation,
                QuadrotorComponent.VelocityError,
                QuadrotorComponent.AngularVelocity,
                QuadrotorComponent.PreviousAction,
            ]
        ),
    ];

    public static readonly IReadOnlyList<ObservationGroup> Groups = Array.ConvertAll(
        All,
        view => new ObservationGroup(view.Name, Array.ConvertAll(view.Components, Describe))
    );

    /// <summary>Distance of the drone to its reference, and the length of the difference of their velocities.</summary>
    public static readonly IReadOnlyList<EnvironmentMeasure> Measures =
    [
        new("position_error", "m", MeasureOver.Mean),
        new("velocity_error", "m/s", MeasureOver.Mean),
    ];

    private static ObservationComponent Describe(QuadrotorComponent component) =>
        component switch
        {
            QuadrotorComponent.Position => new("position, world, m", 3),
            QuadrotorComponent.PositionError => new("position error, world, m", 3),
            QuadrotorComponent.Rotation => new("rotation matrix, body to world, row-major", 9),
            QuadrotorComponent.Velocity => new("linear velocity, world, m/s", 3),
            QuadrotorComponent.VelocityError => new("linear velocity error, world, m/s", 3),
            QuadrotorComponent.AngularVelocity => new("angular velocity, body, rad/s", 3),
            QuadrotorComponent.PreviousAction => new("previous action", 4),
            _ => new("rotor states, mapped to [-1, 1]", 4),
        };
}
