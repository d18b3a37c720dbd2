namespace Distill.Environments.Manipulation;

/// <summary>The scene of one environment: MuJoCo's mjData.</summary>
/// <param name="Data">Its address.</param>
internal readonly record struct World(Tabletop Table, nint Data)
{
    // The hand's pose (7), the two fingers, and the puck's pose (7) or how far the drawer or the button is.
    private const int PuckPlace = 9;

    /// <summary>Steps of MuJoCo in one of the environment.</summary>
    private const int Substeps = 5;
    private const double HandPerAction = 0.01;
    private const double WidestOpening = 0.1;

    private static readonly Point Low = new(-0.5, 0.4, 0.05);
    private static readonly Point High = new(0.5, 1, 0.5);

    // What observations show of the hand is within these.
    private static readonly Point ShownLow = new(-0.525, 0.348, -0.0525);
    private static readonly Point ShownHigh = new(0.525, 1.025, 0.7);

    /// <summary>Numbers from which everything follows that comes after.</summary>
    public int StateSize => Table.Positions + 2 * Table.Velocities + Table.Controls + 3 * Table.Movers + 1;

    private Span<double> Positions => Array(MujocoLayout.Array.Qpos, Table.Positions);
    private Span<double> Controls => Array(MujocoLayout.Array.Ctrl, Table.Controls);
    private Span<double> Movers => Array(MujocoLayout.Array.MocapPos, 3 * Table.Movers);

    /// <summary>Puts the hand to its start, open, and the puck, the chest or the box to its place.</summary>
    public void Reset(in Layout layout)
    {
        MujocoCalls.ResetData(Table.Model, Data);
        layout.Hand.CopyTo(Positions);
        layout.Hand.CopyTo(Movers);
        layout.Place.CopyTo(Table.Object < 0 ? Positions[PuckPlace..] : Movers[3..]);
        MujocoCalls.Kinematics(Table.Model, Data);
    }

    /// <summary>Moves what the hand is welded to, and the fingers.</summary>
    /// <param name="x">The action's numbers, each from -1 to 1; likewise below. Above 0, the last closes.</param>
    /// <param name="warnings">How often MuJoCo warned.</param>
    /// <returns>Whether the state stayed finite; if not, MuJoCo has begun anew.</returns>
    public bool Step(double x, double y, double z, double close, int environment, out int warnings)
    {
        var mover = Movers;
        mover[0] = Math.Clamp(mover[0] + HandPerAction * x, Low.X, High.X);
        mover[1] = Math.Clamp(mover[1] + HandPerAction * y, Low.Y, High.Y);
        mover[2] = Math.Clamp(mover[2] + HandPerAction * z, Low.Z, High.Z);
        Controls.Fill(close);
        MujocoCalls.Step(Table.Model, Data, Substeps, environment);
        // What has places was last computed before the step's motion.
        MujocoCalls.Kinematics(Table.Model, Data);
        return CountWarnings(out warnings);
    }

    public Frame Look()
    {
        var hand = Site(Table.Hand);
        var frame = new Frame(
            new(
                Math.Clamp(hand.X, ShownLow.X, ShownHigh.X),
                Math.Clamp(hand.Y, ShownLow.Y, ShownHigh.Y),
                Math.Clamp(hand.Z, ShownLow.Z, ShownHigh.Z)
            ),
            Math.Clamp((Site(Table.LeftTip) - Site(Table.RightTip)).Length / WidestOpening, 0, 1),
            default,
            0,
            0,
            0,
            1
        );
        if (Table.Object >= 0)
            return frame with { Object = Site(Table.Object) };
        var puck = Positions[PuckPlace..];
        // MuJoCo has the real part first.
        return frame with
        {
            Object = new(puck[0], puck[1], puck[2]),
            Qx = puck[4],
            Qy = puck[5],
            Qz = puck[6],
            Qw = puck[3],
        };
    }

    public Grip Grip() =>
        new(
            0.5 * (Site(Table.LeftTip) + Site(Table.RightTip)),
            Site(Table.LeftPad).Y,
            Site(Table.RightPad).Y
        );

    /// <summary>Copies the state out, or in.</summary>
    /// <param name="state"><c>[<see cref="StateSize"/>]</c>.</param>
    public void Copy(Span<double> state, bool into)
    {
        Part(Positions, ref state);
        Part(Array(MujocoLayout.Array.Qvel, Table.Velocities), ref state);
        // Where the solver starts from.
        Part(Array(MujocoLayout.Array.QaccWarmstart, Table.Velocities), ref state);
        Part(Controls, ref state);
        Part(Movers, ref state);
        Part(new(ref MujocoCalls.Number(Data, MujocoLayout.Number.Time)), ref state);

        void Part(Span<double> part, ref Span<double> rest)
        {
            if (into)
                rest[..part.Length].CopyTo(part);
            else
                part.CopyTo(rest);
            rest = rest[part.Length..];
        }
    }

    /// <summary>Takes the warnings that were counted since the last time.</summary>
    private bool CountWarnings(out int warnings)
    {
        (warnings, var finite) = (0, true);
        for (var kind = 0; kind < MujocoLayout.Warning.Kinds; kind++)
        {
            ref var raised = ref MujocoCalls.Integer(
                Data,
                MujocoLayout.Warning.First + kind * MujocoLayout.Warning.Size + MujocoLayout.Warning.Raised
            );
            warnings += raised;
            finite &= raised == 0 || kind is < MujocoLayout.Warning.BadQpos or > MujocoLayout.Warning.BadQacc;
            raised = 0;
        }
        return finite;
    }

    private Span<double> Array(int field, int length) => MujocoCalls.Numbers(Data, field, length);

    private Point Site(int site)
    {
        var place = Array(MujocoLayout.Array.SiteXpos, 3 * Table.Sites).Slice(3 * site, 3);
        return new(place[0], place[1], place[2]);
    }
}
