using System.Reflection;

namespace Distill.Environments.Manipulation;

/// <summary>
/// The model of a scene in <c>assets/manipulation</c> as MuJoCo compiled it: one of each for the process, which is never written.
/// </summary>
internal sealed class Tabletop
{
    /// <summary>What all scenes include.</summary>
    private const string Common = "table.xml";

    private static readonly Lock Loading = new();
    private static readonly Dictionary<string, Tabletop> Loaded = [];

    public readonly nint Model;
    public readonly int Positions;
    public readonly int Velocities;
    public readonly int Controls;
    public readonly int Sites;

    /// <summary>Bodies that the environment puts where they are to be: what the hand is welded to is the first.</summary>
    public readonly int Movers;

    public readonly int Hand;
    public readonly int LeftTip;
    public readonly int RightTip;
    public readonly int LeftPad;
    public readonly int RightPad;

    /// <summary>The site of what is observed beside the hand; -1 where that is a puck.</summary>
    public readonly int Object;

    private Tabletop(nint model)
    {
        Model = model;
        Positions = MujocoCalls.Integer(model, MujocoLayout.Count.Nq);
        Velocities = MujocoCalls.Integer(model, MujocoLayout.Count.Nv);
        Controls = MujocoCalls.Integer(model, MujocoLayout.Count.Nu);
        Sites = MujocoCalls.Integer(model, MujocoLayout.Count.Nsite);
        Movers = MujocoCalls.Integer(model, MujocoLayout.Count.Nmocap);
        Hand = Site("hand");
        (LeftTip, RightTip) = (Site("left_tip"), Site("right_tip"));
        (LeftPad, RightPad) = (Site("left_pad"), Site("right_pad"));
        Object = Site("object");
    }

    /// <summary>The model of a task's scene, compiled at the first call.</summary>
    /// <exception cref="DistillException">MuJoCo is missing, or of another version.</exception>
    public static Tabletop Load(ManipulationTask task)
    {
        var scene = task switch
        {
            ManipulationTask.DrawerOpen => "drawer.xml",
            ManipulationTask.ButtonPress => "button.xml",
            _ => "tabletop.xml",
        };
        lock (Loading)
        {
            if (Loaded.Count == 0)
                Begin();
            if (!Loaded.TryGetValue(scene, out var loaded))
                Loaded[scene] = loaded = Compile(scene);
            return loaded;
        }
    }

    private static void Begin()
    {
        if (!MujocoCalls.IsInstalled)
            throw new DistillException(
                $"Manipulation needs MuJoCo 2.2.2 ({MujocoCalls.Library}), which is not installed (on Debian: apt-get install libmujoco2.2.2)."
            );
        if (MujocoCalls.Version() is not MujocoLayout.Version and var other)
            throw new DistillException(
                $"{MujocoCalls.Library} says that its version is {other}; it must be {MujocoLayout.Version}."
            );
        MujocoCalls.Hook();
    }

    private static Tabletop Compile(string scene)
    {
        var folder = Directory.CreateTempSubdirectory("distill-").FullName;
        try
        {
            foreach (var name in new[] { Common, scene })
            {
                using var kept = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)!;
                using var file = File.Create(Path.Combine(folder, name));
                kept.CopyTo(file);
            }
            return new(MujocoCalls.LoadModel(Path.Combine(folder, scene)));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private int Site(string name) => MujocoCalls.Find(Model, MujocoLayout.Kind.Site, name);
}
