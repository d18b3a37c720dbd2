namespace Distill.Environments.Quadrotor;

/// <summary>
/// Quadrotors of rl-tools' L2F simulator, side by side. Action: four numbers, clamped to [-1, 1] for the motors but not
/// for the reward and the observation, in the order front-right, back-right, back-left, front-left.
/// </summary>
public sealed class QuadrotorEnvironment : IHoldingEnvironment, IAssignableEnvironment
{
    private const int StateLength = QuadrotorFields.Total * Panel.Width;
    private const int BlockLength = QuadrotorConstants.Total * Panel.Width;

    private readonly QuadrotorKernels kernels = QuadrotorKernels.All.InUse;

    private readonly FloatBuffer state;

    // First states of episodes to come, in the layout of the state; each follows from its environment and episode, so no
    // checkpoint needs them.
    private readonly FloatBuffer next;

    // Panels that fly the same drones in the same lanes share one block of constants, which then stays in cache.
    private FloatBuffer constants;
    private int[] blocks;
    private int[] assignment;
    private readonly QuadrotorConfig config;
    private readonly QuadrotorRules rules;

    /// <summary>Environments as configured, each at the start of its first episode.</summary>
    /// <param name="seed">With an environment's index, it determines all random numbers.</param>
    /// <param name="drones">In place of those that the configuration names.</param>
    /// <param name="assignment">Index of each environment's drone, one per environment; default: what the configuration says.</param>
    /// <exception cref="DistillException">The configuration, a drone or the assignment is wrong.</exception>
    public QuadrotorEnvironment(
        QuadrotorConfig config,
        ulong seed,
        IReadOnlyList<QuadrotorParameters>? drones = null,
        IReadOnlyList<int>? assignment = null
    )
    {
        this.config = config;
        Drones = config.CheckedDrones(drones);
        Spec = config.Spec(Drones);
        Count = config.Envs;
        this.assignment = Checked(assignment);
        rules = new(
            config.EpisodeLimit,
            config.Task switch
            {
                QuadrotorTask.FigureEight => ReferenceMotion.FigureEight,
                _ when Drones.Any(drone => drone.Trajectory.Mixture[1] > 0) => ReferenceMotion.Langevin,
                _ => ReferenceMotion.Still,
            },
            Drones.Any(drone => drone.Mdp.Reward is not { LinearVelocity: 0, AngularVelocity: 0 }),
            (float)(1 / config.FigureEight.LoopSeconds),
            (float)config.FigureEight.HalfLength,
            (float)config.FigureEight.RampSeconds,
            new(seed, "quadrotor.reset"),
            new(seed, "quadrotor.langevin")
        );
        (constants, blocks) = PackBlocks();
        state = new(blocks.Length * StateLength);
        next = new(blocks.Length * StateLength);
        Rewind();
    }

    public EnvironmentSpec Spec { get; }

    public int Count { get; }

    /// <summary>The drones that fly, with the configuration's task, reward and initial states in place.</summary>
    public IReadOnlyList<QuadrotorParameters> Drones { get; }

    /// <summary>Index in <see cref="Drones"/> of the drone that each environment flies, <c>[envs]</c>.</summary>
    public IReadOnlyList<int> Assignment => new ArraySegment<int>(assignment, 0, Count);

    /// <summary>What all of them share.</summary>
    internal QuadrotorRules Rules => rules;

    /// <summary><c>[panels, 42, 32]</c>.</summary>
    internal Span<float> States => state.Span;

    /// <summary><c>[blocks, 85, 32]</c>.</summary>
    internal ReadOnlySpan<float> Constants => constants.Span;

    /// <summary><c>[panels]</c>: which block of constants each has.</summary>
    internal ReadOnlySpan<int> Blocks => blocks;

    public int VariantOf(int environment) => assignment[environment];

    public void Assign(ReadOnlySpan<int> variants)
    {
        assignment = Checked(variants.ToArray());
        constants.Dispose();
        (constants, blocks) = PackBlocks();
        // Drawn ahead for other drones.
        for (var panel = 0; panel < blocks.Length; panel++)
            Field(PanelNext(panel), QuadrotorField.Episode).Fill(-1);
    }

    public void Reset(int panel)
    {
        Span<float> ended = stackalloc float[StepOutcome.Rows * Panel.Width];
        ended.Fill(1);
        Restart(panel, new StepOutcome(ended));
    }

    public void Observe(int panel, int group, Span<float> observation) =>
        kernels.Observe(
            QuadrotorViews.All[group].Components,
            PanelState(panel),
            PanelConstants(panel),
            observation[..(Spec.Groups[group].Size * Panel.Width)]
        );

    public void Step(int panel, ReadOnlySpan<float> actions, StepOutcome outcome)
    {
        var first = panel * Panel.Width;
        if (kernels.Step(rules, first, PanelState(panel), PanelConstants(panel), actions, outcome))
            Restart(panel, outcome);
    }

    public void Advance(int panel, ReadOnlySpan<float> actions, StepOutcome outcome) =>
        kernels.Step(rules, panel * Panel.Width, PanelState(panel), PanelConstants(panel), actions, outcome);

    public void Restart(int panel, StepOutcome outcome) =>
        kernels.Restart(
            rules,
            panel * Panel.Width,
            PanelState(panel),
            PanelNext(panel),
            PanelConstants(panel),
            outcome
        );

    public void Rewind()
    {
        for (var panel = 0; panel < blocks.Length; panel++)
        {
            // So that the reset, which counts one up, starts episode 0, and finds that it is not there yet.
            Field(PanelState(panel), QuadrotorField.Episode).Fill(-1);
            Field(PanelNext(panel), QuadrotorField.Episode).Fill(-1);
            Reset(panel);
        }
    }

    public void Visit(State state) => state.Block("quadrotor.state", this.state);

    /// <summary>Copies a field of a panel's true state, <c>[field size, 32]</c>: for recordings and tracking errors.</summary>
    public void ReadState(int panel, QuadrotorField field, Span<float> values) =>
        Field(PanelState(panel), field).CopyTo(values);

    /// <summary>
    /// Overwrites a field of a panel's true state, <c>[field size, 32]</c>: to start from given states. A quaternion must
    /// be of unit length; nothing is checked.
    /// </summary>
    public void WriteState(int panel, QuadrotorField field, ReadOnlySpan<float> values)
    {
        var target = Field(PanelState(panel), field);
        values[..target.Length].CopyTo(target);
    }

    public void Dispose()
    {
        state.Dispose();
        next.Dispose();
        constants.Dispose();
    }

    private Span<float> PanelState(int panel) => state.Slice(panel * StateLength, StateLength);

    private Span<float> PanelNext(int panel) => next.Slice(panel * StateLength, StateLength);

    private static Span<float> Field(Span<float> state, QuadrotorField field) =>
        state.Slice((int)field * Panel.Width, field.Size() * Panel.Width);

    /// <summary>Moves a panel's Langevin references with given standard normal draws, <c>[3, 32]</c>; tests drive it.</summary>
    internal void AdvanceLangevin(int panel, ReadOnlySpan<float> noise) =>
        kernels.AdvanceLangevin(PanelState(panel), PanelConstants(panel), noise);

    private ReadOnlySpan<float> PanelConstants(int panel) =>
        constants.Slice(blocks[panel] * BlockLength, BlockLength);

    /// <summary>A drone for every lane, those of the last panel that hold no environment included.</summary>
    private int[] Checked(IReadOnlyList<int>? given)
    {
        if (given is not null && given.Count != Count)
            throw new DistillException(
                $"The assignment of drones has {given.Count} entries for {Count} environments; it needs one for each."
            );
        var drones = new int[Panel.Count(Count) * Panel.Width];
        for (var i = 0; i < drones.Length; i++)
        {
            drones[i] = given is null ? config.DroneOf(i, Drones.Count) : given[i % Count];
            if (drones[i] < 0 || drones[i] >= Drones.Count)
                throw new DistillException(
                    $"Environment {i} is assigned drone {drones[i]}, but the drones are 0 to {Drones.Count - 1}."
                );
        }
        return drones;
    }

    private (FloatBuffer Constants, int[] Blocks) PackBlocks()
    {
        var known = new Dictionary<string, int>();
        var blocks = new int[assignment.Length / Panel.Width];
        var firstPanels = new List<int>();
        for (var panel = 0; panel < blocks.Length; panel++)
        {
            var key = string.Join(',', assignment.Skip(panel * Panel.Width).Take(Panel.Width));
            if (known.TryAdd(key, firstPanels.Count))
                firstPanels.Add(panel);
            blocks[panel] = known[key];
        }
        var constants = new FloatBuffer(firstPanels.Count * BlockLength);
        for (var block = 0; block < firstPanels.Count; block++)
        for (var lane = 0; lane < Panel.Width; lane++)
        {
            var drone = Drones[assignment[firstPanels[block] * Panel.Width + lane]];
            QuadrotorConstants.Pack(drone, constants.Slice(block * BlockLength, BlockLength), lane);
        }
        return (constants, blocks);
    }
}
