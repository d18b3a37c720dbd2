// A quadrotor's rows, and what its kernels are told. The rows are those of Distill.Core/Environments/Quadrotor, where their meaning and
// units are said; a test compares them.
#pragma once
#include "random.cuh"
#include "vectors.cuh"

struct QuadrotorField {
    enum : int {
        Position = 0, Orientation = 3, Velocity = 7, AngularVelocity = 10, Rotors = 13, PreviousAction = 17,
        Force = 21, Torque = 24, ReferencePosition = 27, ReferenceVelocity = 30, LangevinPosition = 33,
        LangevinVelocity = 36, FollowsLangevin = 39, Step = 40, Episode = 41,
        Total = 42,
    };
};

struct QuadrotorConstant {
    enum : int {
        TimeStep = 0, ActionCentre = 1, ActionHalfRange = 2, RotorMin = 3, RotorMax = 4, RisingShare = 5,
        FallingShare = 9, Thrust0 = 13, Thrust1 = 17, Thrust2 = 21, RollPerThrust = 25, PitchPerThrust = 29,
        YawPerThrust = 33, InverseInertia = 37, Gyroscopic = 40, InverseMass = 43, Gravity = 44, RewardConstant = 47,
        PositionWeight = 48, PositionClip = 49, YawWeight = 50, ActionChangeWeight = 51, VelocityWeight = 52,
        AngularVelocityWeight = 53, RewardFloor = 54, TerminationPenalty = 55, PositionThreshold = 56,
        VelocityThreshold = 57, AngularVelocityThreshold = 58, RotorScale = 59, RotorOffset = 60,
        LangevinDamping = 61, LangevinStiffness = 62, LangevinNoise = 63, LangevinSmoothing = 64, Guidance = 65,
        InitialPosition = 66, InitialTurns = 67, InitialVelocity = 68, InitialAngularVelocity = 69,
        InitialRotorMin = 70, InitialRotorRange = 71, ForceMean = 72, ForceStd = 73, TorqueMean = 74, TorqueStd = 75,
        LangevinShare = 76, Parameters = 77,
        Total = 85,
    };
};

using F = QuadrotorField;
using C = QuadrotorConstant;

// How the reference moves, for a whole batch.
enum class ReferenceMotion : int { Still, Langevin, FigureEight };

// What all environments of a batch share; QuadrotorRules.
struct QuadrotorRules {
    int episodeLimit;
    ReferenceMotion motion;
    int velocityCosts;
    float loopRate, loopSize, loopRamp, loopSpeed;
    Stream resets, langevin;
};

// A batch of quadrotors: panels of states and of constants. Panels that fly the same drones share one block of constants.
struct Quadrotors {
    QuadrotorRules rules;
    unsigned count;
    float *states;
    float *constants;
    const int *blocks;
};

// One of them.
struct Quadrotor {
    unsigned index;
    Lane state;
    Lane constants;

    DEVICE_MEMBER float &operator[](int field) const { return state[field]; }
};

DEVICE Quadrotor quadrotorOf(const Quadrotors &all, unsigned index) {
    return {
        index,
        laneOf(all.states, index, F::Total),
        laneOf(all.constants, all.blocks[index / PanelWidth] * PanelWidth + index % PanelWidth, C::Total),
    };
}
