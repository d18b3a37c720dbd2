namespace Distill.Environments.Manipulation;

/// <summary>What can be seen of manipulation: the observation groups, and the measures of a step; and what an action is.</summary>
internal static class ManipulationViews
{
    public const int FrameSize = 18;
    public const int ActionSize = 4;
    public const double StepSeconds = 0.0125;

    // Places of the groups in the list of them.
    public const int Teacher = 0;
    public const int Student = 1;
    public const int Reduced = 2;
    public const int Task = 3;
    public const int Expert = 4;
    public const int NoisyExpert = 5;

    private static readonly ObservationComponent[] Now = Show("");

    private static readonly ObservationComponent[] Before = Show(" a step before");

    private static readonly ObservationComponent Goal = new("goal, world, m", 3);

    private static readonly ObservationComponent[] Action =
    [
        new("expert's motion of the hand, world, cm", 3),
        new("expert's closing", 1),
    ];

    public static EnvironmentSpec Spec(ManipulationConfig config) =>
        new(
            "manipulation",
            [
                new("teacher", [.. Now, .. Before, Goal]),
                new("student", [.. Now, .. Before, Goal]),
                new("reduced", [.. Now, Goal]),
                new("task", [new("task, one of all", TasksOfScenes(config.Tasks))]),
                new("expert", Action),
                new("noisy_expert", Action),
            ],
            new(ActionSize, Discrete: false)
            {
                Meaning =
                    "motion of the hand along x, y and z in cm a step, from -1 to 1, and above 0 how hard the fingers close, below how hard they open",
            },
            config.EpisodeLimit,
            StepSeconds
        )
        {
            Measures =
            [
                new("success", "", MeasureOver.Final) { HigherIsBetter = true },
                new("success_any", "", MeasureOver.Max) { HigherIsBetter = true },
                new("object_to_goal", "m", MeasureOver.Final),
                new("warnings", "", MeasureOver.Final),
            ],
            Variants = [.. config.Tasks.Select(Name)],
        };

    /// <param name="rows"><c>[18, 32]</c>, of which a lane is written.</param>
    public static void Write(in Frame frame, Span<float> rows, int lane)
    {
        Write(frame.Hand, rows, lane);
        rows[3 * Panel.Width + lane] = (float)frame.Opening;
        Write(frame.Object, rows[(4 * Panel.Width)..], lane);
        rows[7 * Panel.Width + lane] = (float)frame.Qx;
        rows[8 * Panel.Width + lane] = (float)frame.Qy;
        rows[9 * Panel.Width + lane] = (float)frame.Qz;
        rows[10 * Panel.Width + lane] = (float)frame.Qw;
    }

    /// <param name="rows"><c>[3, 32]</c>, of which a lane is written.</param>
    public static void Write(Point point, Span<float> rows, int lane)
    {
        rows[lane] = (float)point.X;
        rows[Panel.Width + lane] = (float)point.Y;
        rows[2 * Panel.Width + lane] = (float)point.Z;
    }

    /// <summary>How many tasks the scenes have: those with a puck only, or all.</summary>
    private static int TasksOfScenes(IReadOnlyList<ManipulationTask> tasks) =>
        tasks.All(task => task <= ManipulationTask.PickPlace)
            ? (int)ManipulationTask.PickPlace + 1
            : Enum.GetValues<ManipulationTask>().Length;

    private static ObservationComponent[] Show(string when) =>
        [
            new($"hand{when}, world, m", 3),
            new($"opening of the hand{when}, 0.1 m", 1),
            new($"puck, handle or button{when}, world, m", 3),
            new($"its orientation{when}, quaternion x y z w", 4),
            new($"nothing{when}", 7),
        ];

    private static string Name(ManipulationTask task) =>
        task switch
        {
            ManipulationTask.Reach => "reach",
            ManipulationTask.Push => "push",
            ManipulationTask.PickPlace => "pick_place",
            ManipulationTask.DrawerOpen => "drawer_open",
            _ => "button_press",
        };
}
