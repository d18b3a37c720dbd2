namespace Distill.Compute;

/// <summary>How much memory this process can still take before the machine or a limit stops it.</summary>
public static class MachineMemory
{
    /// <summary>
    /// The least of: what the machine has left; what the control groups of the process have left, where the kernel would kill
    /// it; and a heap limit of the runtime, if one is set. Nearly all of Distill's memory is outside the runtime's heap, which
    /// does not stop it, but who sets such a limit means the process.
    /// </summary>
    public static long AvailableBytes
    {
        get
        {
            var runtime = GC.GetGCMemoryInfo();
            var machine =
                Read("/proc/meminfo", "MemAvailable:") * 1024
                ?? runtime.TotalAvailableMemoryBytes - runtime.MemoryLoadBytes;
            var heap =
                GC.GetConfigurationVariables().TryGetValue("GCHeapHardLimit", out var limit)
                && Convert.ToInt64(limit) is > 0 and var set
                    ? set
                    : long.MaxValue;
            return Math.Max(
                0,
                Math.Min(Math.Min(machine, heap), OfGroups("/sys/fs/cgroup", "/proc/self/cgroup"))
            );
        }
    }

    /// <summary>What the tightest control group leaves: its own limit and those of all groups above it.</summary>
    /// <param name="root">Where the groups are mounted.</param>
    /// <param name="membership">The file that says which groups the process is in.</param>
    internal static long OfGroups(string root, string membership)
    {
        var left = long.MaxValue;
        try
        {
            foreach (var line in File.Exists(membership) ? File.ReadAllLines(membership) : [])
            {
                // hierarchy:controllers:path; version 2 has no controllers.
                if (line.Split(':', 3) is not [_, var controllers, var path])
                    continue;
                var unified = controllers.Length == 0;
                if (!unified && !controllers.Split(',').Contains("memory"))
                    continue;
                var mount = unified ? root : Path.Combine(root, "memory");
                var (limit, used) = unified
                    ? ("memory.max", "memory.current")
                    : ("memory.limit_in_bytes", "memory.usage_in_bytes");
                // Inside a container the path may be the host's, which is not to be seen here; its own group is the mount.
                for (var group = path.Trim('/'); ; group = Path.GetDirectoryName(group) ?? "")
                {
                    left = Math.Min(left, OfGroup(Path.Combine(mount, group), limit, used));
                    if (group.Length == 0)
                        break;
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What cannot be read cannot be counted.
        }
        return left;
    }

    private static long OfGroup(string group, string limit, string used)
    {
        if (Number(Path.Combine(group, limit)) is not { } most)
            return long.MaxValue;
        // Cached files count as used, but make room.
        var cached = Read(Path.Combine(group, "memory.stat"), "inactive_file") ?? 0;
        return most - Math.Max(0, (Number(Path.Combine(group, used)) ?? 0) - cached);
    }

    private static long? Number(string path) =>
        File.Exists(path) && long.TryParse(File.ReadAllText(path), out var number) ? number : null;

    /// <summary>The number after a name at the beginning of a line.</summary>
    private static long? Read(string path, string name)
    {
        foreach (var line in File.Exists(path) ? File.ReadLines(path) : [])
            if (
                line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var first, var value, ..]
                && first == name
                && long.TryParse(value, out var number)
            )
                return number;
        return null;
    }
}
