namespace Distill.Environments.Manipulation;

/// <summary>
/// Where MuJoCo keeps the fields that are read and written here, in bytes. Printed by native/mujoco_layout.c; do not edit.
/// </summary>
internal static class MujocoLayout
{
    /// <summary>What mj_version() must return.</summary>
    public const int Version = 222;

    /// <summary>Integers of mjModel.</summary>
    public static class Count
    {
        public const int Nq = 0;
        public const int Nv = 4;
        public const int Nu = 8;
        public const int Na = 12;
        public const int Nbody = 16;
        public const int Nsite = 28;
        public const int Nmocap = 156;
    }

    /// <summary>Numbers of mjData.</summary>
    public static class Number
    {
        public const int Time = 40336;
    }

    /// <summary>Pointers to numbers in mjData.</summary>
    public static class Array
    {
        public const int Qpos = 40376;
        public const int Qvel = 40384;
        public const int QaccWarmstart = 40400;
        public const int Ctrl = 40408;
        public const int MocapPos = 40432;
        public const int SiteXpos = 40552;
    }

    /// <summary>The warning statistics of mjData: how often each was raised is the second integer of a pair.</summary>
    public static class Warning
    {
        public const int First = 24;
        public const int Size = 8;
        public const int Raised = 4;
        public const int Kinds = 8;
        public const int BadQpos = 4;
        public const int BadQacc = 6;
    }

    /// <summary>Kinds of objects that have names.</summary>
    public static class Kind
    {
        public const int Site = 6;
    }
}
