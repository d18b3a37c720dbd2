// Vectors in space and quaternions w + x i + y j + z k, as in Distill.Core/Compute/VectorsW512.cs.
#pragma once
#include "distill.cuh"

struct Vector3 {
    float x, y, z;
};

DEVICE Vector3 operator+(Vector3 a, Vector3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE Vector3 operator-(Vector3 a, Vector3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
DEVICE Vector3 operator*(Vector3 a, Vector3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
DEVICE Vector3 operator*(float a, Vector3 b) { return {a * b.x, a * b.y, a * b.z}; }
DEVICE Vector3 fma(Vector3 a, Vector3 b, Vector3 c) { return {fma(a.x, b.x, c.x), fma(a.y, b.y, c.y), fma(a.z, b.z, c.z)}; }
DEVICE Vector3 fma(float a, Vector3 b, Vector3 c) { return {fma(a, b.x, c.x), fma(a, b.y, c.y), fma(a, b.z, c.z)}; }
DEVICE float length(Vector3 v) { return squareRoot(fma(v.x, v.x, fma(v.y, v.y, v.z * v.z))); }

// The largest absolute value of the three.
DEVICE float largest(Vector3 v) { return most(most(absolute(v.x), absolute(v.y)), absolute(v.z)); }

DEVICE Vector3 load3(Lane lane, int row) { return {lane[row], lane[row + 1], lane[row + 2]}; }

DEVICE void store(Vector3 v, Lane lane, int row) {
    lane[row] = v.x;
    lane[row + 1] = v.y;
    lane[row + 2] = v.z;
}

struct Quaternion {
    float w, x, y, z;
};

DEVICE Quaternion operator*(float a, Quaternion q) { return {a * q.w, a * q.x, a * q.y, a * q.z}; }

DEVICE Quaternion fma(float a, Quaternion b, Quaternion c) {
    return {fma(a, b.w, c.w), fma(a, b.x, c.x), fma(a, b.y, c.y), fma(a, b.z, c.z)};
}

// The product with a vector, a quaternion without real part.
DEVICE Quaternion operator*(Quaternion q, Vector3 v) {
    return {
        fma(-q.x, v.x, fma(-q.y, v.y, -q.z * v.z)),
        fma(q.w, v.x, fma(-q.z, v.y, q.y * v.z)),
        fma(q.w, v.y, fma(-q.x, v.z, q.z * v.x)),
        fma(q.w, v.z, fma(-q.y, v.x, q.x * v.y)),
    };
}

// A force of this size along the body's z axis, in the world.
DEVICE Vector3 upward(Quaternion q, float force) {
    float twice = force + force;
    return {
        twice * fma(q.x, q.z, q.w * q.y),
        twice * fma(-q.w, q.x, q.y * q.z),
        fma(-twice, fma(q.x, q.x, q.y * q.y), force),
    };
}

// Scaled to length 1.
DEVICE Quaternion unit(Quaternion q) {
    float square = fma(q.w, q.w, fma(q.x, q.x, fma(q.y, q.y, q.z * q.z)));
    return 1.0f / squareRoot(square) * q;
}
