namespace Distill.Environments.Quadrotor;

/// <summary>The rules that a drone's parameters must obey, one sentence for each field that breaks one.</summary>
internal readonly struct ParameterCheck(string source)
{
    public void Run(QuadrotorParameters parameters)
    {
        Positive(parameters.Integration.Dt, "integration.dt");
        Body(parameters.Dynamics, parameters.Integration.Dt);
        Initial(parameters.Mdp.Init);
        Reward(parameters.Mdp.Reward);
        Noise(parameters.Mdp);
        Limits(parameters.Mdp.Termination);
        Distribution(parameters.Disturbances.RandomForce, "disturbances.random_force");
        Distribution(parameters.Disturbances.RandomTorque, "disturbances.random_torque");
        Reference(parameters.Trajectory);
    }

    private void Body(QuadrotorDynamics dynamics, double dt)
    {
        Matrix(dynamics.RotorPositions, 4, "dynamics.rotor_positions");
        Matrix(dynamics.RotorThrustDirections, 4, "dynamics.rotor_thrust_directions");
        for (var rotor = 0; rotor < 4; rotor++)
            if (dynamics.RotorThrustDirections[rotor] is not [0, 0, 1])
                Refuse(
                    $"dynamics.rotor_thrust_directions[{rotor}]",
                    "is not (0, 0, 1), the only direction this simulator implements"
                );
        Matrix(dynamics.RotorTorqueDirections, 4, "dynamics.rotor_torque_directions");
        Matrix(dynamics.RotorThrustCoefficients, 4, "dynamics.rotor_thrust_coefficients");
        Vector(dynamics.RotorTorqueConstants, 4, "dynamics.rotor_torque_constants");
        Vector(dynamics.RotorTimeConstantsRising, 4, "dynamics.rotor_time_constants_rising");
        Vector(dynamics.RotorTimeConstantsFalling, 4, "dynamics.rotor_time_constants_falling");
        for (var rotor = 0; rotor < 4; rotor++)
        {
            Lag(
                dynamics.RotorTimeConstantsRising[rotor],
                dt,
                $"dynamics.rotor_time_constants_rising[{rotor}]"
            );
            Lag(
                dynamics.RotorTimeConstantsFalling[rotor],
                dt,
                $"dynamics.rotor_time_constants_falling[{rotor}]"
            );
        }
        Positive(dynamics.Mass, "dynamics.mass");
        Vector(dynamics.Gravity, 3, "dynamics.gravity");
        Diagonal(dynamics.J, "dynamics.J");
        Diagonal(dynamics.JInv, "dynamics.J_inv");
        Finite(dynamics.HoveringThrottleRelative, "dynamics.hovering_throttle_relative");
        Finite(dynamics.ActionLimit.Min, "dynamics.action_limit.min");
        Finite(dynamics.ActionLimit.Max, "dynamics.action_limit.max");
        if (dynamics.ActionLimit.Max <= dynamics.ActionLimit.Min)
            Refuse("dynamics.action_limit.max", "must be above dynamics.action_limit.min");
    }

    private void Initial(InitialStates init)
    {
        Probability(init.Guidance, "mdp.init.guidance");
        NotNegative(init.MaxPosition, "mdp.init.max_position");
        NotNegative(init.MaxAngle, "mdp.init.max_angle");
        NotNegative(init.MaxLinearVelocity, "mdp.init.max_linear_velocity");
        NotNegative(init.MaxAngularVelocity, "mdp.init.max_angular_velocity");
        Finite(init.MinRpm, "mdp.init.min_rpm");
        Finite(init.MaxRpm, "mdp.init.max_rpm");
    }

    private void Reward(RewardWeights reward)
    {
        Finite(reward.Scale, "mdp.reward.scale");
        Finite(reward.Constant, "mdp.reward.constant");
        Finite(reward.TerminationPenalty, "mdp.reward.termination_penalty");
        Finite(reward.Position, "mdp.reward.position");
        NotNegative(reward.PositionClip, "mdp.reward.position_clip");
        Finite(reward.Orientation, "mdp.reward.orientation");
        Finite(reward.LinearVelocity, "mdp.reward.linear_velocity");
        Finite(reward.AngularVelocity, "mdp.reward.angular_velocity");
        Finite(reward.DAction, "mdp.reward.d_action");
        Zero(reward.LinearAcceleration, "mdp.reward.linear_acceleration");
        Zero(reward.AngularAcceleration, "mdp.reward.angular_acceleration");
        Zero(reward.Action, "mdp.reward.action");
        Zero(reward.PositionErrorIntegral, "mdp.reward.position_error_integral");
    }

    private void Noise(QuadrotorMdp mdp)
    {
        Zero(mdp.ObservationNoise.Position, "mdp.observation_noise.position");
        Zero(mdp.ObservationNoise.Orientation, "mdp.observation_noise.orientation");
        Zero(mdp.ObservationNoise.LinearVelocity, "mdp.observation_noise.linear_velocity");
        Zero(mdp.ObservationNoise.AngularVelocity, "mdp.observation_noise.angular_velocity");
        Zero(mdp.ObservationNoise.ImuAcceleration, "mdp.observation_noise.imu_acceleration");
        Zero(mdp.ActionNoise.NormalizedRpm, "mdp.action_noise.normalized_rpm");
    }

    private void Limits(QuadrotorTermination termination)
    {
        Positive(termination.PositionThreshold, "mdp.termination.position_threshold");
        Positive(termination.LinearVelocityThreshold, "mdp.termination.linear_velocity_threshold");
        Positive(termination.AngularVelocityThreshold, "mdp.termination.angular_velocity_threshold");
    }

    private void Distribution(NormalDisturbance normal, string field)
    {
        Finite(normal.Mean, $"{field}.mean");
        NotNegative(normal.Std, $"{field}.std");
    }

    private void Reference(QuadrotorTrajectory trajectory)
    {
        Vector(trajectory.Mixture, 2, "trajectory.mixture");
        if (trajectory.MixtureCount != 2)
            Refuse("trajectory.MIXTURE_N", "must be 2 (position, Langevin)");
        Probability(trajectory.Mixture[0], "trajectory.mixture[0]");
        Probability(trajectory.Mixture[1], "trajectory.mixture[1]");
        if (Math.Abs(trajectory.Mixture[0] + trajectory.Mixture[1] - 1) > 1e-6)
            Refuse("trajectory.mixture", "must sum to 1");
        NotNegative(trajectory.Langevin.Gamma, "trajectory.langevin.gamma");
        NotNegative(trajectory.Langevin.Omega, "trajectory.langevin.omega");
        NotNegative(trajectory.Langevin.Sigma, "trajectory.langevin.sigma");
        Probability(trajectory.Langevin.Alpha, "trajectory.langevin.alpha");
    }

    private void Matrix(double[][] values, int rows, string field)
    {
        if (values.Length != rows)
            Refuse(field, $"has {values.Length} rows instead of {rows}");
        for (var row = 0; row < rows; row++)
            if (values[row] is null)
                Refuse($"{field}[{row}]", "is null instead of 3 numbers");
            else
                Vector(values[row], 3, $"{field}[{row}]");
    }

    private void Diagonal(double[][] values, string field)
    {
        Matrix(values, 3, field);
        for (var row = 0; row < 3; row++)
        for (var column = 0; column < 3; column++)
            if (row == column)
                Positive(values[row][column], $"{field}[{row}][{column}]");
            else if (values[row][column] != 0)
                Refuse(
                    $"{field}[{row}][{column}]",
                    $"is {values[row][column]}, but this simulator implements diagonal inertia alone"
                );
    }

    private void Vector(double[] values, int length, string field)
    {
        if (values.Length != length)
            Refuse(field, $"has {values.Length} numbers instead of {length}");
        for (var i = 0; i < length; i++)
            Finite(values[i], $"{field}[{i}]");
    }

    // The simulator computes in single precision, so a number beyond its range is as bad as infinity.
    private void Finite(double value, string field)
    {
        if (!float.IsFinite((float)value))
            Refuse(field, $"is {value}, not a finite single-precision number");
    }

    private void Positive(double value, string field)
    {
        Finite(value, field);
        if ((float)value <= 0 || !float.IsFinite((float)(1 / value)))
            Refuse(field, $"is {value} but must be positive");
    }

    // A faster rotor could swing past its command within a step, where the other time constant would count.
    private void Lag(double value, double dt, string field)
    {
        Finite(value, field);
        if (value < dt)
            Refuse(field, $"is {value} s but must be at least the step of {dt} s");
    }

    private void NotNegative(double value, string field)
    {
        Finite(value, field);
        if (value < 0)
            Refuse(field, $"is {value} but must not be negative");
    }

    private void Probability(double value, string field)
    {
        Finite(value, field);
        if (value is < 0 or > 1)
            Refuse(field, $"is {value} but must be between 0 and 1");
    }

    private void Zero(double value, string field)
    {
        if (value != 0)
            Refuse(field, $"is {value}, but this simulator does not implement it: only 0 is accepted");
    }

    private void Refuse(string field, string complaint) =>
        throw new DistillException($"Quadrotor parameters {source}: {field} {complaint}.");
}
