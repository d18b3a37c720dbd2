using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>A vector in space for every lane.</summary>
[method: MethodImpl(MethodImplOptions.AggressiveInlining)]
internal readonly struct Vector3W512(Vector512<float> x, Vector512<float> y, Vector512<float> z)
{
    public readonly Vector512<float> X = x;
    public readonly Vector512<float> Y = y;
    public readonly Vector512<float> Z = z;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 operator +(Vector3W512 a, Vector3W512 b) =>
        new(a.X + b.X, a.Y + b.Y, a.Z + b.Z);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 operator -(Vector3W512 a, Vector3W512 b) =>
        new(a.X - b.X, a.Y - b.Y, a.Z - b.Z);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 operator *(Vector3W512 a, Vector3W512 b) =>
        new(a.X * b.X, a.Y * b.Y, a.Z * b.Z);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 operator *(Vector512<float> a, Vector3W512 b) => new(a * b.X, a * b.Y, a * b.Z);

    /// <summary>The lanes that the mask selects; 0 elsewhere.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 operator &(Vector3W512 a, Vector512<float> mask) =>
        new(a.X & mask, a.Y & mask, a.Z & mask);
}

/// <summary>A quaternion w + x i + y j + z k for every lane.</summary>
[method: MethodImpl(MethodImplOptions.AggressiveInlining)]
internal readonly struct QuaternionW512(
    Vector512<float> w,
    Vector512<float> x,
    Vector512<float> y,
    Vector512<float> z
)
{
    public readonly Vector512<float> W = w;
    public readonly Vector512<float> X = x;
    public readonly Vector512<float> Y = y;
    public readonly Vector512<float> Z = z;

    /// <summary>The product with a vector, a quaternion without real part.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuaternionW512 operator *(QuaternionW512 q, Vector3W512 v) =>
        new(
            Vector512.FusedMultiplyAdd(-q.X, v.X, Vector512.FusedMultiplyAdd(-q.Y, v.Y, -q.Z * v.Z)),
            Vector512.FusedMultiplyAdd(q.W, v.X, Vector512.FusedMultiplyAdd(-q.Z, v.Y, q.Y * v.Z)),
            Vector512.FusedMultiplyAdd(q.W, v.Y, Vector512.FusedMultiplyAdd(-q.X, v.Z, q.Z * v.X)),
            Vector512.FusedMultiplyAdd(q.W, v.Z, Vector512.FusedMultiplyAdd(-q.Y, v.X, q.X * v.Y))
        );

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuaternionW512 operator *(Vector512<float> a, QuaternionW512 q) =>
        new(a * q.W, a * q.X, a * q.Y, a * q.Z);

    /// <summary>
    /// A force of this size along the body's z axis, in the world: the third column of the rotation matrix, written so that
    /// it needs no unit quaternion.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector3W512 Upward(Vector512<float> force)
    {
        var twice = force + force;
        return new(
            twice * Vector512.FusedMultiplyAdd(X, Z, W * Y),
            twice * Vector512.FusedMultiplyAdd(-W, X, Y * Z),
            Vector512.FusedMultiplyAdd(-twice, Vector512.FusedMultiplyAdd(X, X, Y * Y), force)
        );
    }

    /// <summary>Scaled to length 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public QuaternionW512 Unit()
    {
        var square = Vector512.FusedMultiplyAdd(
            W,
            W,
            Vector512.FusedMultiplyAdd(X, X, Vector512.FusedMultiplyAdd(Y, Y, Z * Z))
        );
        return Vector512<float>.One / Vector512.Sqrt(square) * this;
    }
}

/// <summary>Operations on vectors in space.</summary>
internal static class VectorsW512
{
    /// <summary>a b + c, element by element.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 FusedMultiplyAdd(Vector3W512 a, Vector3W512 b, Vector3W512 c) =>
        new(
            Vector512.FusedMultiplyAdd(a.X, b.X, c.X),
            Vector512.FusedMultiplyAdd(a.Y, b.Y, c.Y),
            Vector512.FusedMultiplyAdd(a.Z, b.Z, c.Z)
        );

    /// <summary>a b + c.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector3W512 FusedMultiplyAdd(Vector512<float> a, Vector3W512 b, Vector3W512 c) =>
        new(
            Vector512.FusedMultiplyAdd(a, b.X, c.X),
            Vector512.FusedMultiplyAdd(a, b.Y, c.Y),
            Vector512.FusedMultiplyAdd(a, b.Z, c.Z)
        );

    /// <inheritdoc cref="FusedMultiplyAdd(Vector512{float}, Vector3W512, Vector3W512)"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuaternionW512 FusedMultiplyAdd(Vector512<float> a, QuaternionW512 b, QuaternionW512 c) =>
        new(
            Vector512.FusedMultiplyAdd(a, b.W, c.W),
            Vector512.FusedMultiplyAdd(a, b.X, c.X),
            Vector512.FusedMultiplyAdd(a, b.Y, c.Y),
            Vector512.FusedMultiplyAdd(a, b.Z, c.Z)
        );

    /// <summary>Euclidean length.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Length(Vector3W512 v) =>
        Vector512.Sqrt(Vector512.FusedMultiplyAdd(v.X, v.X, Vector512.FusedMultiplyAdd(v.Y, v.Y, v.Z * v.Z)));

    /// <summary>The largest absolute value of the three.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Largest(Vector3W512 v) =>
        Vector512.MaxNative(Vector512.MaxNative(Vector512.Abs(v.X), Vector512.Abs(v.Y)), Vector512.Abs(v.Z));
}
