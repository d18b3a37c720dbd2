namespace Distill.Environments.Manipulation;

/// <summary>
/// Controllers that solve the tasks, functions of what the observation shows alone: above the puck, down, close, and with the puck to
/// the goal; behind the handle and away; onto the button and down. MetaWorld's own begin to drag before the hand has closed.
/// </summary>
internal static class ScriptedExpert
{
    private const double Gain = 10;

    /// <summary>The tips are that far below the hand, m.</summary>
    private const double TipsBelow = 0.045;

    // Of the hand above the puck, m.
    private const double HoverHeight = 0.11;
    private const double GripHeight = 0.03;
    private const double CloseBelow = 0.045;

    /// <summary>How far the hand may be beside the puck before it goes down, m.</summary>
    private const double Beside = 0.02;

    /// <summary>The opening below which the hand holds the puck, which is 0.58 wide between the fingers.</summary>
    private const double Gripped = 0.6;

    /// <summary>How far the hand is from the handle at most when a finger is behind it, m.</summary>
    private const double Hooked = 0.04;

    /// <summary>How far the hand may be beside the middle of the button, whose radius is 0.043, m.</summary>
    private const double OverButton = 0.035;

    /// <summary>The hand above the button's goal that presses it down to its end, m.</summary>
    private const double Pressed = 0.06;

    /// <summary>The tips above the button on the way there, m.</summary>
    private const double ClearOfButton = 0.05;

    // Nearer than this the hand does not go sideways while it is lower by that, m.
    private const double Clear = 0.15;
    private const double LowBy = 0.03;

    /// <param name="action"><c>[4]</c>, each from -1 to 1.</param>
    public static void Act(ManipulationTask task, in Frame now, Point goal, Span<double> action)
    {
        switch (task)
        {
            case ManipulationTask.Reach:
                Move(goal + new Point(0, 0, TipsBelow) - now.Hand, 0, action);
                break;
            case ManipulationTask.DrawerOpen:
                Pull(now, goal, action);
                break;
            case ManipulationTask.ButtonPress:
                Press(now, goal, action);
                break;
            default:
                Carry(now, goal, action);
                break;
        }
    }

    private static void Carry(in Frame now, Point goal, Span<double> action)
    {
        var toPuck = now.Object - now.Hand;
        if (toPuck.FlatLength > Beside)
            Move(toPuck + new Point(0, 0, HoverHeight), -1, action);
        else if (-toPuck.Z > CloseBelow)
            Move(toPuck + new Point(0, 0, GripHeight), -1, action);
        else if (now.Opening > Gripped)
            Move(toPuck + new Point(0, 0, GripHeight), 1, action);
        else
            Move(goal - now.Object, 1, action);
    }

    /// <summary>An open finger goes down behind the handle and takes it along.</summary>
    private static void Pull(in Frame now, Point goal, Span<double> action)
    {
        var toHandle = now.Object - now.Hand;
        if (toHandle.Length < Hooked)
            Move(new Point(toHandle.X, goal.Y - now.Object.Y, toHandle.Z), -1, action);
        else if (toHandle.FlatLength < Beside)
            Move(toHandle, -1, action);
        else
            Above(toHandle, HoverHeight, -1, action);
    }

    /// <summary>The closed fingers go onto the button and take it down.</summary>
    private static void Press(in Frame now, Point goal, Span<double> action)
    {
        var toButton = now.Object - now.Hand;
        if (toButton.FlatLength < OverButton)
            Move(new Point(toButton.X, toButton.Y, goal.Z + Pressed - now.Hand.Z), 1, action);
        else
            Above(toButton, TipsBelow + ClearOfButton, 1, action);
    }

    /// <summary>Over something that stands in the way: first up, if the hand is near.</summary>
    private static void Above(Point to, double height, double close, Span<double> action)
    {
        var up = to.Z + height;
        var blocked = up > LowBy && to.FlatLength < Clear;
        Move(blocked ? new(0, 0, up) : new(to.X, to.Y, up), close, action);
    }

    private static void Move(Point by, double close, Span<double> action)
    {
        (action[0], action[1], action[2]) = (Step(by.X), Step(by.Y), Step(by.Z));
        action[3] = close;
    }

    private static double Step(double error) => Math.Clamp(Gain * error, -1, 1);
}
