using static Distill.Environments.Quadrotor.QuadrotorComponent;

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

    /// <summary>What the disturbance of the episode accelerates, world.</summary>
    Disturbance,

    /// <summary>The rows of <see cref="DroneParameters"/>.</summary>
    Parameters,
}

/// <summary>What can be seen of quadrotors: the observation groups, and the measures of a step; and what an action is.</summary>
internal static class QuadrotorViews
{
    private static readonly QuadrotorComponent[] Tracking =
    [
        PositionError,
        Rotation,
        VelocityError,
        AngularVelocity,
        PreviousAction,
    ];

    /// <summary>Names of the groups, and what each shows.</summary>
    public static readonly (string Name, QuadrotorComponent[] Components)[] All =
    [
        ("teacher", [.. Tracking, Rotors]),
        ("student", [Position, Rotation, Velocity, AngularVelocity, PreviousAction]),
        ("tracking", Tracking),
        ("privileged", [.. Tracking, Rotors, Disturbance, Parameters]),
    ];

    public static readonly IReadOnlyList<ObservationGroup> Groups = Array.ConvertAll(
        All,
        view => new ObservationGroup(view.Name, [.. view.Components.SelectMany(Describe)])
    );

    /// <summary>Distance of the drone to its reference, and the length of the difference of their velocities.</summary>
    public static readonly IReadOnlyList<EnvironmentMeasure> Measures =
    [
        new("position_error", "m", MeasureOver.Mean),
        new("velocity_error", "m/s", MeasureOver.Mean),
    ];

    /// <summary>Where the drone is at rest, against where it should be.</summary>
    public static readonly IReadOnlyList<string> SteadyStates =
    [
        .. Describe(Position).Concat(Describe(PositionError)).Select(component => component.Name),
    ];

    public static readonly ActionSpace Actions = new(4, Discrete: false)
    {
        Meaning =
            "commands of the rotors front-right, back-right, back-left, front-left: -1 for the lowest, 1 for the highest, "
            + "clamped to [-1, 1]; the previous action is observed as the policy gave it, not clamped",
    };

    private static IEnumerable<ObservationComponent> Describe(QuadrotorComponent component) =>
        component switch
        {
            Position => [new("position, world, m", 3)],
            PositionError => [new("position error, world, m", 3)],
            Rotation => [new("rotation matrix, body to world, row-major", 9)],
            Velocity => [new("linear velocity, world, m/s", 3)],
            VelocityError => [new("linear velocity error, world, m/s", 3)],
            AngularVelocity => [new("angular velocity, body, rad/s", 3)],
            PreviousAction => [new("previous action", 4)],
            Rotors => [new("rotor states, mapped to [-1, 1]", 4)],
            Disturbance => [new("acceleration by the disturbance, world, m/s^2", 3)],
            _ => DroneParameters.Descriptions.Select(description => new ObservationComponent(description, 1)),
        };
}
