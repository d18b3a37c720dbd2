// The L2F simulator (rl-tools, commit e43ae4bc; Eschmann et al., "Learning to Fly in Seconds", 2024), one thread for each environment:
// the formulas of Distill.Core/Environments/Quadrotor/*W512.cs in the same order, so that every bit is the same.
#pragma once
#include "quadrotor.cuh"

// Motion

// The tableau of the classical Runge-Kutta method: how far each stage's rate carries to the next stage, and its weight in the step;
// and weights of the stages' accelerations in the position, in units of dt^2.
constexpr int Stages = 4;
DEVICE float stageStep(int stage) { return stage < 2 ? 0.5f : stage == 2 ? 1.0f : 0.0f; }
DEVICE float stageWeight(int stage) { return stage == 0 || stage == 3 ? 1.0f / 6.0f : 1.0f / 3.0f; }
DEVICE float positionStageWeight(int stage) { return stage < 3 ? 1.0f / 6.0f : 0.0f; }

// What the rotors do together in a stage: their thrust, and the angular acceleration that they make; later the angular velocity.
struct Push {
    float thrust;
    Vector3 turning;
};

// With one rotor more, in state w.
DEVICE void add(Push &push, Lane c, int rotor, float w) {
    float f = fma(c[C::Thrust2 + rotor], w, c[C::Thrust1 + rotor]);
    f = fma(f, w, c[C::Thrust0 + rotor]);
    push.thrust = push.thrust + f;
    push.turning.x = fma(f, c[C::RollPerThrust + rotor], push.turning.x);
    push.turning.y = fma(f, c[C::PitchPerThrust + rotor], push.turning.y);
    push.turning.z = fma(f, c[C::YawPerThrust + rotor], push.turning.z);
}

// Rotor states through the four stages. The command is constant, so each stage has a fixed share of the gap between rotor and
// command left, and no stage changes sides.
DEVICE void turnRotors(const Quadrotor &drone, Lane actions, Push *pushes) {
    Lane c = drone.constants;
    Vector3 turning = load3(drone.state, F::Torque) * load3(c, C::InverseInertia);
    for (int stage = 0; stage < Stages; stage++)
        pushes[stage] = {0.0f, turning};
#pragma unroll
    for (int rotor = 0; rotor < 4; rotor++) {
        float command = fma(clamp(actions[rotor], -1.0f, 1.0f), c[C::ActionHalfRange], c[C::ActionCentre]);
        float w = drone[F::Rotors + rotor];
        float gap = w - command;
        float share = gap <= 0.0f ? c[C::RisingShare + rotor] : c[C::FallingShare + rotor];
        float half = share * 0.5f;
        float left2 = 1.0f - half;
        float left3 = fma(-half, left2, 1.0f);
        float left4 = fma(-share, left3, 1.0f);
        float mean = fma(left2 + left3, 2.0f, 1.0f + left4);
        float left = fma(-share, mean * (1.0f / 6.0f), 1.0f);
        add(pushes[0], c, rotor, w);
        add(pushes[1], c, rotor, fma(left2, gap, command));
        add(pushes[2], c, rotor, fma(left3, gap, command));
        add(pushes[3], c, rotor, fma(left4, gap, command));
        drone[F::Rotors + rotor] = clamp(fma(left, gap, command), c[C::RotorMin], c[C::RotorMax]);
    }
}

// The simulator keeps positions and velocities within 1e5 of zero.
DEVICE Vector3 bounded(Vector3 v) { return {clamp(v.x, -1e5f, 1e5f), clamp(v.y, -1e5f, 1e5f), clamp(v.z, -1e5f, 1e5f)}; }

// Euler's equations through the four stages; replaces each stage's acceleration by its angular velocity.
DEVICE void turnBody(const Quadrotor &drone, Push *pushes) {
    float dt = drone.constants[C::TimeStep];
    Vector3 gyroscopic = load3(drone.constants, C::Gyroscopic);
    Vector3 start = load3(drone.state, F::AngularVelocity);
    Vector3 omega = start, sum = {};
#pragma unroll
    for (int stage = 0; stage < Stages; stage++) {
        Vector3 products = {omega.y * omega.z, omega.z * omega.x, omega.x * omega.y};
        Vector3 rate = fma(products, gyroscopic, pushes[stage].turning);
        pushes[stage].turning = omega;
        sum = fma(stageWeight(stage), rate, sum);
        omega = fma(dt * stageStep(stage), rate, start);
    }
    store(bounded(fma(dt, sum, start)), drone.state, F::AngularVelocity);
}

DEVICE Quaternion orientationOf(Lane state) {
    return {state[F::Orientation], state[F::Orientation + 1], state[F::Orientation + 2], state[F::Orientation + 3]};
}

DEVICE void storeOrientation(Quaternion q, Lane state) {
    state[F::Orientation] = q.w;
    store(Vector3{q.x, q.y, q.z}, state, F::Orientation + 1);
}

// Velocity and position after the step, from the weighted thrusts of the stages.
DEVICE void move(const Quadrotor &drone, Vector3 forVelocity, Vector3 forPosition) {
    Lane c = drone.constants;
    float dt = c[C::TimeStep], inverseMass = c[C::InverseMass];
    Vector3 constant = fma(inverseMass, load3(drone.state, F::Force), load3(c, C::Gravity));
    Vector3 velocity = load3(drone.state, F::Velocity);
    // The mean velocity during the step takes the position along.
    Vector3 mean = fma(inverseMass, forPosition, 0.5f * constant);
    mean = fma(dt, mean, velocity);
    Vector3 position = fma(dt, mean, load3(drone.state, F::Position));
    velocity = fma(dt, fma(inverseMass, forVelocity, constant), velocity);
    store(bounded(position), drone.state, F::Position);
    store(bounded(velocity), drone.state, F::Velocity);
}

// The quaternion through the four stages, with the thrust turned to the world on the way; then velocity and position.
DEVICE void turnAndMove(const Quadrotor &drone, const Push *pushes) {
    float dt = drone.constants[C::TimeStep];
    Quaternion start = orientationOf(drone.state), q = start, sum = {};
    Vector3 forVelocity = {}, forPosition = {};
#pragma unroll
    for (int stage = 0; stage < Stages; stage++) {
        Vector3 force = upward(q, pushes[stage].thrust);
        forVelocity = fma(stageWeight(stage), force, forVelocity);
        forPosition = fma(positionStageWeight(stage), force, forPosition);
        Quaternion rate = q * (0.5f * pushes[stage].turning);
        sum = fma(stageWeight(stage), rate, sum);
        q = fma(dt * stageStep(stage), rate, start);
    }
    // After the last stage this is the quaternion at the start again, because that stage steps by 0.
    storeOrientation(unit(fma(dt, sum, q)), drone.state);
    move(drone, forVelocity, forPosition);
}

// References

// Semi-implicit Euler-Maruyama, then smoothing; a fixed reference stays.
DEVICE void advanceLangevin(const Quadrotor &drone, const Stream &stream) {
    Lane s = drone.state, c = drone.constants;
    Words words = randomWords(stream, drone.index, (unsigned)(int)s[F::Episode], (unsigned)(int)s[F::Step], 0);
    Vector3 noise;
    float unused;
    normals(words.x[0], words.x[1], noise.x, noise.y);
    normals(words.x[2], words.x[3], noise.z, unused);
    bool follows = s[F::FollowsLangevin] > 0.0f;
    float dt = c[C::TimeStep];
    Vector3 x = load3(s, F::LangevinPosition), v = load3(s, F::LangevinVelocity);
    Vector3 pull = fma(c[C::LangevinDamping], v, c[C::LangevinStiffness] * x);
    v = fma(c[C::LangevinNoise], noise, v - dt * pull);
    x = fma(dt, v, x);
    Vector3 smoothV = load3(s, F::ReferenceVelocity);
    smoothV = fma(c[C::LangevinSmoothing], v - smoothV, smoothV);
    Vector3 smoothX = fma(dt, smoothV, load3(s, F::ReferencePosition));
    store(follows ? x : Vector3{}, s, F::LangevinPosition);
    store(follows ? v : Vector3{}, s, F::LangevinVelocity);
    store(follows ? smoothX : Vector3{}, s, F::ReferencePosition);
    store(follows ? smoothV : Vector3{}, s, F::ReferenceVelocity);
}

// The reference of the next step on the Lissajous curve.
DEVICE void advanceFigureEight(const Quadrotor &drone, const QuadrotorRules &rules) {
    Lane s = drone.state;
    float time = drone.constants[C::TimeStep] * (s[F::Step] + 1.0f);
    float inRamp = least(time, rules.loopRamp);
    float share = inRamp / rules.loopRamp;
    // Loops so far: half of the ramp's time counts, because the rate grows linearly.
    float loops = fma(share * 0.5f, inRamp, time - inRamp);
    loops *= rules.loopRate;
    float sine, cosine;
    sinCosTurns(loops - __builtin_floorf(loops), sine, cosine);
    float speed = rules.loopSize * share * rules.loopSpeed;
    s[F::ReferencePosition] = rules.loopSize * sine * cosine;
    s[F::ReferencePosition + 1] = rules.loopSize * sine;
    s[F::ReferenceVelocity] = speed * (cosine * cosine - sine * sine);
    s[F::ReferenceVelocity + 1] = speed * cosine;
}

// Reward and ends of episodes

DEVICE Vector3 positionError(Lane state) { return load3(state, F::Position) - load3(state, F::ReferencePosition); }
DEVICE Vector3 velocityError(Lane state) { return load3(state, F::Velocity) - load3(state, F::ReferenceVelocity); }

// arccos(1 - x) for x in [0, 1].
DEVICE float arcCosOneMinus(float x) {
    float p = 8.568280e-4f;
    p = fma(p, x, -1.4075971e-3f);
    p = fma(p, x, 2.3606173e-3f);
    p = fma(p, x, 1.0457118e-3f);
    p = fma(p, x, 5.8101062e-3f);
    p = fma(p, x, 1.87202860e-2f);
    p = fma(p, x, 8.33347738e-2f);
    p = fma(p, x, 1.0f);
    return p * squareRoot(x + x);
}

// Reward of a step that does not terminate, from the state before it; then the action becomes the previous one.
DEVICE float rewardOf(const Quadrotor &drone, Lane actions) {
    Lane s = drone.state, c = drone.constants;
    float distance = least(length(positionError(s)), c[C::PositionClip]);
    // In the first step of an episode the previous action counts as 0.
    bool later = s[F::Step] > 0.0f;
    float change = 0.0f;
    for (int rotor = 0; rotor < 4; rotor++) {
        float action = actions[rotor];
        float difference = action - (later ? s[F::PreviousAction + rotor] : 0.0f);
        change = fma(difference, difference, change);
        s[F::PreviousAction + rotor] = action;
    }
    float value = c[C::RewardConstant];
    value -= c[C::PositionWeight] * distance;
    value -= c[C::YawWeight] * arcCosOneMinus(absolute(s[F::Orientation + 3]));
    value -= c[C::ActionChangeWeight] * squareRoot(change);
    return value;
}

// With the costs of velocity error and angular velocity, which the published parameters do not charge.
DEVICE float charged(float value, const Quadrotor &drone) {
    Lane s = drone.state, c = drone.constants;
    float velocity = 0.0f, angular = 0.0f;
    for (int i = 0; i < 3; i++) {
        float v = s[F::Velocity + i] - s[F::ReferenceVelocity + i];
        float w = s[F::AngularVelocity + i];
        velocity = fma(v, v, velocity);
        angular = fma(w, w, angular);
    }
    value -= c[C::VelocityWeight] * squareRoot(velocity);
    return value - c[C::AngularVelocityWeight] * squareRoot(angular);
}

// What a step brought, as the rows of a panel.
struct Outcome {
    enum : int { Reward, Terminated, Truncated, PositionError, VelocityError, Least = PositionError, Total = 5 };
};

// Counts the step and marks the end of the episode; a state that is not a number is terminal.
DEVICE void terminate(const Quadrotor &drone, const QuadrotorRules &rules, float reward, Lane outcome) {
    Lane s = drone.state, c = drone.constants;
    float relative = rules.motion == ReferenceMotion::FigureEight ? 1.0f : 0.0f;
    Vector3 position = fma(-relative, load3(s, F::ReferencePosition), load3(s, F::Position));
    Vector3 velocity = fma(-relative, load3(s, F::ReferenceVelocity), load3(s, F::Velocity));
    bool fine = largest(position) <= c[C::PositionThreshold] && largest(velocity) <= c[C::VelocityThreshold]
        && largest(load3(s, F::AngularVelocity)) <= c[C::AngularVelocityThreshold];
    float step = s[F::Step] + 1.0f;
    s[F::Step] = step;
    outcome[Outcome::Reward] = fine ? most(reward, c[C::RewardFloor]) : c[C::TerminationPenalty];
    outcome[Outcome::Terminated] = fine ? 0.0f : 1.0f;
    outcome[Outcome::Truncated] = fine && step >= (float)rules.episodeLimit ? 1.0f : 0.0f;
}

// Beginnings of episodes

// Position, velocities and orientation: uniform, or at rest in the origin in the guided share of episodes.
DEVICE void placeBody(const Quadrotor &drone, const Stream &stream, unsigned episode) {
    Lane s = drone.state, c = drone.constants;
    Words words = randomWords(stream, drone.index, episode, 0, 0);
    bool free = uniform(words.x[3]) >= c[C::Guidance];
    auto symmetric3 = [&](float limit) {
        return (free ? limit : 0.0f) * Vector3{symmetric(words.x[0]), symmetric(words.x[1]), symmetric(words.x[2])};
    };
    store(symmetric3(c[C::InitialPosition]), s, F::Position);
    words = randomWords(stream, drone.index, episode, 1, 0);
    store(symmetric3(c[C::InitialVelocity]), s, F::Velocity);
    float angle = free ? uniform(words.x[3]) * c[C::InitialTurns] : 0.0f;
    words = randomWords(stream, drone.index, episode, 2, 0);
    store(symmetric3(c[C::InitialAngularVelocity]), s, F::AngularVelocity);
    // The axis is uniform on the sphere: its height is uniform, and so is its longitude.
    float height = symmetric(words.x[3]);
    words = randomWords(stream, drone.index, episode, 6, 0);
    float radius = squareRoot(most(1.0f - height * height, 0.0f));
    float sine, cosine, sineHalf, cosineHalf;
    sinCosTurns(uniform(words.x[0]), sine, cosine);
    sinCosTurns(angle, sineHalf, cosineHalf);
    storeOrientation({cosineHalf, sineHalf * radius * cosine, sineHalf * radius * sine, sineHalf * height}, s);
    s[F::FollowsLangevin] = uniform(words.x[1]) < c[C::LangevinShare] ? 1.0f : 0.0f;
}

// The action in [-1, 1] whose command is this rotor state.
DEVICE float asAction(float rotor, Lane constants) { return fma(rotor, constants[C::RotorScale], constants[C::RotorOffset]); }

// Rotor states, and as previous action the actions that would command them.
DEVICE void spinRotors(const Quadrotor &drone, const Stream &stream, unsigned episode) {
    Lane c = drone.constants;
    Words words = randomWords(stream, drone.index, episode, 3, 0);
    for (int rotor = 0; rotor < 4; rotor++) {
        float w = fma(uniform(words.x[rotor]), c[C::InitialRotorRange], c[C::InitialRotorMin]);
        drone[F::Rotors + rotor] = w;
        drone[F::PreviousAction + rotor] = asAction(w, c);
    }
}

// Three normal components; the constant after the mean is the standard deviation.
DEVICE Vector3 disturbance(const Quadrotor &drone, const Stream &stream, unsigned episode, unsigned draw, int mean) {
    float centre = drone.constants[mean];
    Words words = randomWords(stream, drone.index, episode, draw, 0);
    Vector3 noise;
    float unused;
    normals(words.x[0], words.x[1], noise.x, noise.y);
    normals(words.x[2], words.x[3], noise.z, unused);
    return fma(drone.constants[mean + 1], noise, Vector3{centre, centre, centre});
}

// The first state of the next episode; rows that are not drawn are zero.
DEVICE void restart(const Quadrotor &drone, const Stream &stream) {
    Lane s = drone.state;
    float episode = s[F::Episode] + 1.0f;
    unsigned number = (unsigned)(int)episode;
    for (int row = 0; row < F::Total; row++)
        s[row] = 0.0f;
    s[F::Episode] = episode;
    placeBody(drone, stream, number);
    spinRotors(drone, stream, number);
    store(disturbance(drone, stream, number, 4, C::ForceMean), s, F::Force);
    Vector3 torque = disturbance(drone, stream, number, 5, C::TorqueMean);
    float yaw = drone.constants[C::TorqueMean];
    torque.z = yaw + (torque.z - yaw) * 0.01f;
    store(torque, s, F::Torque);
}

// Observations

// A part of an observation; QuadrotorComponent.
enum class Component : int {
    Position,
    PositionError,
    Rotation,
    Velocity,
    VelocityError,
    AngularVelocity,
    PreviousAction,
    Rotors,
    Disturbance,
    Parameters,
};

DEVICE int put(Vector3 v, Lane rows) {
    store(v, rows, 0);
    return 3;
}

DEVICE int putRotation(Quaternion q, Lane rows) {
    float w = q.w, x = q.x, y = q.y, z = q.z;
    float x2 = x + x, y2 = y + y, z2 = z + z;
    rows[0] = 1.0f - fma(y, y2, z * z2);
    rows[1] = x * y2 - w * z2;
    rows[2] = fma(x, z2, w * y2);
    rows[3] = fma(x, y2, w * z2);
    rows[4] = 1.0f - fma(x, x2, z * z2);
    rows[5] = y * z2 - w * x2;
    rows[6] = x * z2 - w * y2;
    rows[7] = fma(y, z2, w * x2);
    rows[8] = 1.0f - fma(x, x2, y * y2);
    return 9;
}

DEVICE int put(Component component, const Quadrotor &drone, Lane rows) {
    Lane s = drone.state, c = drone.constants;
    switch (component) {
    // Adding 0 makes 0 of -0, with which some episodes start.
    case Component::Position: return put(load3(s, F::Position) + Vector3{}, rows);
    case Component::PositionError: return put(positionError(s), rows);
    case Component::Rotation: return putRotation(orientationOf(s), rows);
    case Component::Velocity: return put(load3(s, F::Velocity) + Vector3{}, rows);
    case Component::VelocityError: return put(velocityError(s), rows);
    case Component::AngularVelocity: return put(load3(s, F::AngularVelocity), rows);
    case Component::PreviousAction:
        for (int rotor = 0; rotor < 4; rotor++)
            rows[rotor] = s[F::PreviousAction + rotor];
        return 4;
    case Component::Rotors:
        for (int rotor = 0; rotor < 4; rotor++)
            rows[rotor] = asAction(s[F::Rotors + rotor], c);
        return 4;
    case Component::Disturbance: return put(c[C::InverseMass] * load3(s, F::Force), rows);
    default:
        for (int i = 0; i < C::Total - C::Parameters; i++)
            rows[i] = c[C::Parameters + i];
        return C::Total - C::Parameters;
    }
}

// The kernels

struct StepArguments {
    Quadrotors drones;
    // [panels, 4, 32].
    float *actions;
    // [panels, outcomeRows, 32]: Outcome.
    float *outcomes;
    int outcomeRows;
    // Where an episode ended, the next begins in the same step.
    int restarts;
};

// One step of all environments.
STEP_KERNEL(quadrotor_step, StepArguments) {
    if (globalIndex() >= given.drones.count)
        return;
    Quadrotor drone = quadrotorOf(given.drones, globalIndex());
    const QuadrotorRules &rules = given.drones.rules;
    Lane actions = laneOf(given.actions, drone.index, 4);
    Lane outcome = laneOf(given.outcomes, drone.index, given.outcomeRows);
    float reward = rewardOf(drone, actions);
    if (rules.velocityCosts)
        reward = charged(reward, drone);
    Push pushes[Stages];
    turnRotors(drone, actions, pushes);
    turnBody(drone, pushes);
    turnAndMove(drone, pushes);
    if (rules.motion == ReferenceMotion::Langevin)
        advanceLangevin(drone, rules.langevin);
    if (rules.motion == ReferenceMotion::FigureEight)
        advanceFigureEight(drone, rules);
    if (given.outcomeRows > Outcome::Least) {
        outcome[Outcome::PositionError] = length(positionError(drone.state));
        outcome[Outcome::VelocityError] = length(velocityError(drone.state));
    }
    terminate(drone, rules, reward, outcome);
    if (given.restarts && outcome[Outcome::Terminated] + outcome[Outcome::Truncated] > 0.0f)
        restart(drone, rules.resets);
}

struct RestartArguments {
    Quadrotors drones;
    // [panels, outcomeRows, 32]: where an episode ended; null for everywhere.
    float *outcomes;
    int outcomeRows;
};

// New episodes where one ended.
STEP_KERNEL(quadrotor_restart, RestartArguments) {
    if (globalIndex() >= given.drones.count)
        return;
    Quadrotor drone = quadrotorOf(given.drones, globalIndex());
    Lane outcome = laneOf(given.outcomes, drone.index, given.outcomeRows);
    if (!given.outcomes || outcome[Outcome::Terminated] + outcome[Outcome::Truncated] > 0.0f)
        restart(drone, given.drones.rules.resets);
}

struct ObserveArguments {
    Quadrotors drones;
    // [panels, rows, 32].
    float *observations;
    int rows;
    int components;
    Component component[8];
};

// What an observation group shows of all environments.
STEP_KERNEL(quadrotor_observe, ObserveArguments) {
    if (globalIndex() >= given.drones.count)
        return;
    Quadrotor drone = quadrotorOf(given.drones, globalIndex());
    Lane rows = laneOf(given.observations, drone.index, given.rows);
    for (int i = 0; i < given.components; i++)
        rows.at += put(given.component[i], drone, rows) * PanelWidth;
}
