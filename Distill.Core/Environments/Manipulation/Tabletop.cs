using System.Reflection;

namespace Distill.Environments.Manipulation;

/// <summary>
/// The model of the scene, <c>assets/manipulation/tabletop.xml</c>, as MuJoCo compiled it: one for the process, which is never written.
/// </summary>
internal sealed class Tabletop
{
    private const string Scene = "tabletop.xml";

    private static readonly Lock Loading = new();
    private static Tabletop? loaded;

    public readonly nint Model;
    public readonly int Positions;
    public readonly int Velocities;
    public readonly int Controls;
    public readonly int Sites;

    public readonly int Hand;
    public readonly int LeftTip;
    public readonly int RightTip;
    public readonly int LeftPad;
    public readonly int RightPad;

    private Tabletop(nint model)
    {
        Model = model;
        Positions = MujocoCalls.Integer(model, MujocoLayout.Count.Nq);
        Velocities = MujocoCalls.Integer(model, MujocoLayout.Count.Nv);
        Controls = MujocoCalls.Integer(model, MujocoLayout.Count.Nu);
        Sites = MujocoCalls.Integer(model, MujocoLayout.Count.Nsite);
        Hand = Site("hand");
        (LeftTip, RightTip) = (Site("left_tip"), Site("right_tip"));
        (LeftPad, RightPad) = (Site("left_pad"), Site("right_pad"));
    }

    /// <summary>The model, compiled at the first call.</summary>
    /// <exception cref="DistillException">MuJoCo is missing, or of another version.</exception>
    public static Tabletop Load()
    {
        lock (Loading)
            return loaded ??= Compile();
    }

    private static Tabletop Compile()
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
        using var scene = Assembly.GetExecutingAssembly().GetManifestResourceStream(Scene)!;
        var folder = Directory.CreateTempSubdirectory("distill-").FullName;
        try
        {
            var path = Path.Combine(folder, Scene);
            using (var file = File.Create(path))
                scene.CopyTo(file);
            return new(MujocoCalls.LoadModel(path));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private int Site(string name) => MujocoCalls.Find(Model, MujocoLayout.Kind.Site, name);
}
