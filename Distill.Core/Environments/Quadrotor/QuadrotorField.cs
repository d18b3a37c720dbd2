namespace Distill.Environments.Quadrotor;

/// <summary>
/// The state of a panel of quadrotors, <c>[42, 32]</c>: a member's value is its first row. World frame right-handed with z
/// up, body frame x forward, y left, z up; rotors front-right, back-right, back-left, front-left.
/// </summary>
public enum QuadrotorField
{
    /// <summary>3 rows: world, m.</summary>
    Position = 0,

    /// <summary>4 rows: unit quaternion (w, x, y, z), body to world.</summary>
    Orientation = 3,

    /// <summary>3 rows: world, m/s.</summary>
    Velocity = 7,

    /// <summary>3 rows: body, rad/s.</summary>
    AngularVelocity = 10,

    /// <summary>4 rows: rotor states, in the range of the drone's action limit.</summary>
    Rotors = 13,

    /// <summary>
    /// 4 rows: the action before this step as given, not clamped; in an episode's first state the rotor states mapped to
    /// [-1, 1], where the reward takes 0 instead.
    /// </summary>
    PreviousAction = 17,

    /// <summary>3 rows: disturbance of the episode, world, N.</summary>
    Force = 21,

    /// <summary>3 rows: disturbance of the episode, body, N m.</summary>
    Torque = 24,

    /// <summary>3 rows: where the drone should be, world, m.</summary>
    ReferencePosition = 27,

    /// <summary>3 rows: world, m/s.</summary>
    ReferenceVelocity = 30,

    /// <summary>3 rows: position of the Langevin process before smoothing, m.</summary>
    LangevinPosition = 33,

    /// <summary>3 rows: velocity of the Langevin process before smoothing, m/s.</summary>
    LangevinVelocity = 36,

    /// <summary>1 row: 1 where the episode's reference is a Langevin process, else 0.</summary>
    FollowsLangevin = 39,

    /// <summary>1 row: steps since the episode began.</summary>
    Step = 40,

    /// <summary>1 row: episodes that the environment finished; with the environment's index it keys the random numbers.</summary>
    Episode = 41,
}

public static class QuadrotorFields
{
    /// <summary>Rows of a panel's state.</summary>
    public const int Total = (int)QuadrotorField.Episode + 1;

    private static readonly QuadrotorField[] Fields = Enum.GetValues<QuadrotorField>();

    /// <summary>Number of rows of a field.</summary>
    public static int Size(this QuadrotorField field)
    {
        var index = Array.IndexOf(Fields, field);
        ArgumentOutOfRangeException.ThrowIfNegative(index, nameof(field));
        return (index + 1 < Fields.Length ? (int)Fields[index + 1] : Total) - (int)field;
    }
}
