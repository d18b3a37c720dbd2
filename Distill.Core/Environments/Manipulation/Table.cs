using System.Runtime.InteropServices;

namespace Distill.Environments.Manipulation;

/// <summary>A point or a difference of two, world, m.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Point(double X, double Y, double Z)
{
    public double Length => Math.Sqrt(X * X + Y * Y + Z * Z);

    /// <summary>Length of its shadow on the table.</summary>
    public double FlatLength => Math.Sqrt(X * X + Y * Y);

    /// <summary>Length seen along y, the direction in which the fingers close.</summary>
    public double LengthAcross => Math.Sqrt(X * X + Z * Z);

    /// <summary>Writes the first three numbers.</summary>
    public void CopyTo(Span<double> numbers) => (numbers[0], numbers[1], numbers[2]) = (X, Y, Z);

    public static Point operator +(Point a, Point b) => new(a.X + b.X, a.Y + b.Y, a.Z + b.Z);

    public static Point operator -(Point a, Point b) => new(a.X - b.X, a.Y - b.Y, a.Z - b.Z);

    public static Point operator *(double factor, Point a) => new(factor * a.X, factor * a.Y, factor * a.Z);
}

/// <summary>What an observation shows of a moment: 18 numbers, of which the last seven are 0.</summary>
/// <param name="Hand">Its origin, 45 mm above the tips of the fingers.</param>
/// <param name="Opening">Distance of the fingers in units of 0.1 m, from 0 to 1.</param>
/// <param name="Object">Centre of the puck, handle of the drawer, or top of the button.</param>
/// <param name="Qx">Orientation of the puck as a quaternion, and of what cannot turn that of no rotation; likewise below.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Frame(
    Point Hand,
    double Opening,
    Point Object,
    double Qx,
    double Qy,
    double Qz,
    double Qw
);

/// <summary>What rewards depend on beside that.</summary>
/// <param name="Tip">Mean of the two tips of the fingers.</param>
/// <param name="LeftPad">y of the pad that is at the larger y, m.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Grip(Point Tip, double LeftPad, double RightPad);

/// <summary>How an episode begins.</summary>
/// <param name="Place">Centre of the puck, foot of the drawer's chest, or origin of the button's box.</param>
internal readonly record struct Layout(Point Hand, Point Place, Point Goal);

/// <summary>What is remembered of an episode beside MuJoCo's state. Bytes of it are in checkpoints: no gaps.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Episode
{
    public Frame Now;

    /// <summary>A step before; at the start the same.</summary>
    public Frame Before;

    public Point Goal;
    public Frame Start;
    public Grip StartGrip;

    /// <summary>Episodes that were started, this one included.</summary>
    public long Started;

    /// <summary>Steps that were made.</summary>
    public int Step;

    /// <summary>MuJoCo's warnings.</summary>
    public int Warnings;
}
