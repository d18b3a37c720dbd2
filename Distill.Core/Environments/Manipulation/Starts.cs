namespace Distill.Environments.Manipulation;

/// <summary>Where episodes begin and where they are to lead, drawn as MetaWorld does.</summary>
internal static class Starts
{
    /// <summary>Where the hand begins in all tasks but one.</summary>
    public static readonly Point Hand = new(0, 0.6, 0.2);

    private static readonly Point HandBeforeButton = new(0, 0.4, 0.2);

    // Where the puck and its goal may be, m.
    private const double HalfWidth = 0.1;
    private const double ObjectFrom = 0.6;
    private const double GoalFrom = 0.8;
    private const double Depth = 0.1;
    private const double ObjectHeight = 0.02;
    private const double GoalLowest = 0.05;
    private const double GoalHighest = 0.3;
    private const double Apart = 0.15;

    private const double ChestAt = 0.9;
    private const double BoxFrom = 0.8;
    private const double BoxHeight = 0.115;

    // From the chest and the box.
    private static readonly Point DrawerOpen = new(0, -0.36, 0.09);
    private static readonly Point ButtonPressed = new(0, 0, 0.1);

    /// <param name="numbers">With the environment's index and the number of its episode, they determine everything.</param>
    public static Layout Draw(ManipulationTask task, RandomStream numbers, int environment, long episode) =>
        task switch
        {
            ManipulationTask.DrawerOpen => Fixed(
                Hand,
                new(Across(numbers, environment, episode), ChestAt, 0),
                DrawerOpen
            ),
            ManipulationTask.ButtonPress => Fixed(
                HandBeforeButton,
                new(
                    Across(numbers, environment, episode),
                    BoxFrom + Depth * numbers.Uniform((uint)environment, (uint)episode, 0, 1),
                    BoxHeight
                ),
                ButtonPressed
            ),
            _ => Puck(task, numbers, environment, episode),
        };

    private static double Across(RandomStream numbers, int environment, long episode) =>
        -HalfWidth + 2 * HalfWidth * numbers.Uniform((uint)environment, (uint)episode, 0, 0);

    private static Layout Fixed(Point hand, Point place, Point toGoal) => new(hand, place, place + toGoal);

    /// <summary>Draws the places of the puck and the goal until they are apart.</summary>
    private static Layout Puck(ManipulationTask task, RandomStream numbers, int environment, long episode)
    {
        for (var attempt = 0u; ; attempt++)
        {
            var puck = new Point(
                Uniform(0, -HalfWidth, 2 * HalfWidth),
                Uniform(1, ObjectFrom, Depth),
                ObjectHeight
            );
            var goal = new Point(
                Uniform(2, -HalfWidth, 2 * HalfWidth),
                Uniform(3, GoalFrom, Depth),
                task == ManipulationTask.Push
                    ? ObjectHeight
                    : Uniform(4, GoalLowest, GoalHighest - GoalLowest)
            );
            if ((puck - goal).FlatLength >= Apart)
                return new(Hand, puck, goal);

            double Uniform(uint number, double from, double width) =>
                from + width * numbers.Uniform((uint)environment, (uint)episode, attempt, number);
        }
    }
}
