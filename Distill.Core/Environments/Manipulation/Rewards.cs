namespace Distill.Environments.Manipulation;

/// <summary>What a step brought.</summary>
/// <param name="Reward">From 0 to 10.</param>
/// <param name="Success">Whether the goal is reached after it.</param>
/// <param name="ToGoal">Distance to the goal of what is to be there, m.</param>
internal readonly record struct Gain(double Reward, bool Success, double ToGoal);

/// <summary>
/// MetaWorld's rewards and successes (Yu et al., Meta-World, 2020; the formulas of its second version, from its code).
/// </summary>
internal static class Rewards
{
    private const double Near = 0.05;
    private const double NearInTheAir = 0.07;

    /// <summary>The largest reward, and that of whoever is there.</summary>
    private const double Most = 10;

    /// <summary>How near to the puck the tips hold it.</summary>
    private const double Held = 0.02;
    private const double Lifted = 0.01;

    /// <summary>How near the hand is to be to a handle or a button.</summary>
    private const double HandThere = 0.01;

    // From closed to MetaWorld's goal, where the reward is full, and what counts as open.
    private const double DrawerTravel = 0.2;
    private const double DrawerThere = 0.02;
    private const double DrawerOpened = 0.03;

    // Likewise, with how near the tips must be for it to count.
    private const double ButtonTravel = 0.0935;
    private const double ButtonThere = 0.005;
    private const double ButtonPressed = 0.024;
    private const double OnButton = 0.03;

    private const double ObjectRadius = 0.015;
    private const double PadReach = 0.05;
    private const double AcrossReach = 0.005;
    private const double CagedFrom = 0.97;

    /// <param name="close">The action's last number: above 0 closes the hand.</param>
    public static Gain Of(ManipulationTask task, in Episode episode, in Grip grip, double close) =>
        task switch
        {
            ManipulationTask.Reach => Reach(episode, grip),
            ManipulationTask.Push => Push(episode, grip, close),
            ManipulationTask.PickPlace => PickPlace(episode, grip, close),
            ManipulationTask.DrawerOpen => DrawerOpen(episode),
            _ => ButtonPress(episode, grip),
        };

    private static Gain Reach(in Episode episode, in Grip grip)
    {
        var toGoal = (grip.Tip - episode.Goal).Length;
        var reward = Most * Tolerance(toGoal, 0, Near, (Starts.Hand - episode.Goal).Length);
        return new(reward, toGoal <= Near, toGoal);
    }

    private static Gain Push(in Episode episode, in Grip grip, double close)
    {
        var toGoal = (episode.Now.Object - episode.Goal).Length;
        var inPlace = InPlace(episode, toGoal);
        var (y, start) = (episode.Now.Object.Y, episode.Start.Object.Y);
        var caged = Caged(
            episode,
            grip,
            Pad(Math.Abs(grip.LeftPad - y), Math.Abs(grip.LeftPad - start)),
            Pad(Math.Abs(grip.RightPad - y), Math.Abs(grip.RightPad - start)),
            close
        );
        var reward = 2 * caged;
        if (Holds(episode, grip))
            reward = 2 * reward + 1 + 5 * inPlace;
        return new(toGoal < Near ? Most : reward, toGoal <= Near, toGoal);
    }

    private static Gain PickPlace(in Episode episode, in Grip grip, double close)
    {
        var toGoal = (episode.Now.Object - episode.Goal).Length;
        var inPlace = InPlace(episode, toGoal);
        var y = episode.Now.Object.Y;
        var caged = Caged(
            episode,
            grip,
            Pad(grip.LeftPad - y, Math.Abs(y - episode.StartGrip.LeftPad)),
            Pad(y - grip.RightPad, Math.Abs(y - episode.StartGrip.RightPad)),
            close
        );
        var reward = Both(caged, inPlace);
        if (Holds(episode, grip) && episode.Now.Object.Z > episode.Start.Object.Z + Lifted)
            reward += 1 + 5 * inPlace;
        return new(toGoal < Near ? Most : reward, toGoal <= NearInTheAir, toGoal);
    }

    private static Gain DrawerOpen(in Episode episode)
    {
        var toGoal = (episode.Now.Object - episode.Goal).Length;
        var opened = Tolerance(toGoal, 0, DrawerThere, DrawerTravel);
        var closed = episode.Goal + new Point(0, DrawerTravel, 0);
        var caged = Tolerance(
            Sideways(episode.Now.Object - episode.Now.Hand).Length,
            0,
            HandThere,
            Sideways(closed - episode.StartGrip.Tip).Length
        );
        return new(Most / 2 * (caged + opened), toGoal <= DrawerOpened, toGoal);

        // That the fingers come down behind the handle from above and not through it.
        static Point Sideways(Point difference) => new(3 * difference.X, 3 * difference.Y, difference.Z);
    }

    private static Gain ButtonPress(in Episode episode, in Grip grip)
    {
        var toGoal = Math.Abs(episode.Goal.Z - episode.Now.Object.Z);
        var toButton = (episode.Now.Object - grip.Tip).Length;
        var near = Tolerance(toButton, 0, HandThere, (episode.Now.Object - episode.StartGrip.Tip).Length);
        var reward = Most / 2 * Both(1 - episode.Now.Opening, near);
        if (toButton <= OnButton)
            reward += Most / 2 * Tolerance(toGoal, 0, ButtonThere, ButtonTravel);
        return new(reward, toGoal <= ButtonPressed, toGoal);
    }

    private static double InPlace(in Episode episode, double toGoal) =>
        Tolerance(toGoal, 0, Near, (episode.Start.Object - episode.Goal).Length);

    private static bool Holds(in Episode episode, in Grip grip) =>
        (episode.Now.Object - grip.Tip).Length < Held && episode.Now.Opening > 0;

    /// <summary>How near a pad is to the puck, along y.</summary>
    /// <param name="reference">Distance that is worth a tenth, when a pad's reach is taken off.</param>
    private static double Pad(double distance, double reference) =>
        Tolerance(distance, ObjectRadius, PadReach, Math.Abs(reference - PadReach));

    /// <summary>How well the puck is between the pads, and gripped: from 0 to 1.</summary>
    private static double Caged(in Episode episode, in Grip grip, double left, double right, double close)
    {
        var across = Tolerance(
            (grip.Tip - episode.Now.Object).LengthAcross,
            0,
            AcrossReach,
            (episode.Start.Object - episode.StartGrip.Tip).LengthAcross - AcrossReach
        );
        var caging = Both(Both(left, right), across);
        var gripping = caging > CagedFrom ? Math.Clamp(close, 0, 1) : 0;
        return (Both(caging, gripping) + caging) / 2;
    }

    /// <summary>1 from low to high, and less the farther outside: a tenth at the margin.</summary>
    private static double Tolerance(double value, double low, double high, double margin)
    {
        var outside = value < low ? low - value : value - high;
        if (outside <= 0)
            return 1;
        if (margin == 0)
            return 0;
        var scaled = 3 * outside / margin;
        return 1 / (1 + scaled * scaled);
    }

    /// <summary>Hamacher's product: near 0 where one is, 1 where both are.</summary>
    private static double Both(double a, double b)
    {
        var denominator = a + b - a * b;
        return denominator > 0 ? a * b / denominator : 0;
    }
}
