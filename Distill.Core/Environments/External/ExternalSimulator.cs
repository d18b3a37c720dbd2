using System.Net.Sockets;
using System.Text.Json;

namespace Distill.Environments.External;

/// <summary>
/// A simulator in another process: the connection, the memory shared with it, and its process where Distill started that. What fails
/// is said in one sentence, the same to whoever asks again.
/// </summary>
internal sealed class ExternalSimulator : IDisposable
{
    /// <summary>What <c>python/distill_environment.py</c> must speak.</summary>
    private const int Version = 1;

    // Arrays begin at multiples of 64 bytes.
    private const int Alignment = 16;

    private static readonly TimeSpan Glance = TimeSpan.FromMilliseconds(20);

    private readonly ExternalConfig config;
    private readonly TimeSpan patience;
    private readonly ExternalProcess? process;
    private readonly ExternalChannel? channel;
    private readonly SharedMemory? memory;
    private readonly Layout layout;
    private DistillException? failure;

    /// <summary>Starts the simulator, or connects to it, and has it made.</summary>
    /// <param name="envs">How many environments to ask for.</param>
    /// <exception cref="DistillException">It cannot be started or reached, or it is not what Distill can use.</exception>
    public ExternalSimulator(ExternalConfig config, int envs)
    {
        config.Check();
        this.config = config;
        patience = TimeSpan.FromSeconds(config.StepTimeout);
        try
        {
            if (config.Socket.Length > 0)
                channel = new ExternalChannel(Connect());
            else
                channel = new ExternalChannel(Start(out process));
            Facts = Meet(channel, envs);
            layout = new Layout(Facts);
            memory = new SharedMemory(layout.Length);
            Share(channel, memory);
        }
        catch
        {
            process?.Kill();
            Dispose();
            throw;
        }
    }

    public ExternalFacts Facts { get; }

    /// <summary>Id of the process; null where Distill did not start it.</summary>
    public int? ProcessId => process?.Id;

    /// <summary>Whose episodes are under way in it.</summary>
    public ExternalEnvironment? User { get; set; }

    /// <summary><c>[envs, floats]</c>, like all of these with rows for whole panels: what the environments are to do.</summary>
    public Span<float> Actions => Of(layout.Actions);

    /// <summary><c>[envs]</c>; likewise below.</summary>
    public Span<float> Reward => Of(layout.Reward);

    public Span<float> Terminated => Of(layout.Terminated);

    public Span<float> Truncated => Of(layout.Truncated);

    /// <summary><c>[envs]</c>: 1 where <see cref="Reset"/> is to begin an episode.</summary>
    public Span<float> Mask => Of(layout.Mask);

    public Span<float> Measure(int index) => Of(layout.Measures[index]);

    /// <summary><c>[envs, size]</c>: an array of observations, of the states that are.</summary>
    public Span<float> Observations(int array) => Of(layout.Observations[array]);

    /// <summary><c>[envs, size]</c>: the same of the last states of episodes that ended, in the rows of their environments.</summary>
    public Span<float> Final(int array) => Of(layout.Final[array]);

    /// <exception cref="DistillException">It fails, hangs, or is no more.</exception>
    public void Step()
    {
        CheckWell();
        Check(channel!.Step(patience), "a step", config.StepTimeout, "step_timeout");
    }

    /// <summary>Begins episodes in the environments of the mask.</summary>
    /// <exception cref="DistillException">It fails, hangs, or is no more.</exception>
    public void Reset(long seed)
    {
        CheckWell();
        Check(channel!.Reset(seed, patience), "a reset", config.StepTimeout, "step_timeout");
    }

    /// <summary>Ends the process, or leaves a simulator that runs by itself to whoever comes next.</summary>
    public void Dispose()
    {
        if (failure is null)
            channel?.Quit();
        // A process notices that the connection closes, and then has little time; one that was asked to end may take its own.
        if (failure is not null)
            channel?.Dispose();
        process?.Dispose();
        channel?.Dispose();
        memory?.Dispose();
    }

    private Span<float> Of(Place place) => memory!.Span.Slice(place.Start, place.Rows * place.Size);

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(config.Socket));
            return socket;
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException)
        {
            socket.Dispose();
            throw new DistillException(
                $"No simulator waits at {config.Socket}: {exception.Message}; start it first, with serve(make, socket=\"{config.Socket}\").",
                exception
            );
        }
    }

    /// <summary>Starts the process, and waits until it connects.</summary>
    private Socket Start(out ExternalProcess process)
    {
        // Nobody else can open what is in this folder, which is gone when both are connected.
        var folder = Directory.CreateTempSubdirectory("distill-");
        try
        {
            var path = Path.Combine(folder.FullName, "socket");
            using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen();
            process = new ExternalProcess(config, path);
            var started = TimeProvider.System.GetTimestamp();
            while (!listener.Poll(Glance, SelectMode.SelectRead))
            {
                if (process.HasEnded)
                    throw Failure($"{process.Ending()}. It was to call serve of distill_environment.");
                if (TimeProvider.System.GetElapsedTime(started).TotalSeconds > config.StartTimeout)
                    throw Failure(
                        $"has not called serve of distill_environment within {config.StartTimeout} s (start_timeout); {process.Where}."
                    );
            }
            return listener.Accept();
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Checks who is there, and asks for the environments.</summary>
    private ExternalFacts Meet(ExternalChannel channel, int envs)
    {
        var hello = Hear(channel, "its greeting");
        if (
            !hello.TryGetProperty("distill_environment", out var version)
            || !version.TryGetInt32(out var number)
            || number != Version
        )
            throw Failure(
                $"speaks version {(version.ValueKind == JsonValueKind.Undefined ? "none" : version)} of distill_environment.py and Distill version "
                    + $"{Version}; let it use the file that comes with this Distill."
            );
        channel.Tell(new { envs, seed = config.MakeSeed });
        var told = Hear(channel, "being made");
        return ExternalFacts.Read(JsonSerializer.SerializeToUtf8Bytes(told), config.Title);
    }

    /// <summary>Lets it open the memory, whose name is then no longer needed.</summary>
    private void Share(ExternalChannel channel, SharedMemory memory)
    {
        channel.Tell(layout.Message(memory, Facts));
        Check(
            channel.Ready(TimeSpan.FromSeconds(config.StartTimeout)),
            "opening the shared memory",
            config.StartTimeout,
            "start_timeout"
        );
        memory.Unlink();
    }

    private JsonElement Hear(ExternalChannel channel, string what)
    {
        Check(
            channel.Hear(TimeSpan.FromSeconds(config.StartTimeout), out var message),
            what,
            config.StartTimeout,
            "start_timeout"
        );
        try
        {
            var told = JsonSerializer.Deserialize<JsonElement>(message);
            if (told.ValueKind == JsonValueKind.Object)
                return told.TryGetProperty("error", out var error)
                    ? throw Failure(Raised(error, what))
                    : told;
        }
        catch (JsonException)
        {
            // Said below.
        }
        throw Failure($"does not speak as distill_environment.py does; is it a simulator at all?");
    }

    private void CheckWell()
    {
        if (failure is not null)
            throw failure;
    }

    private void Check(Answer answer, string what, double seconds, string timeout)
    {
        if (answer == Answer.Done)
            return;
        if (answer == Answer.Late)
        {
            process?.Kill();
            throw Failure(
                $"has not finished {what} within {seconds} s ({timeout})"
                    + (process is null ? "." : $" and was ended; {process.Where}.")
            );
        }
        if (answer == Answer.Failed && channel!.Hear(patience, out var message) == Answer.Done)
            throw Failure(
                Raised(JsonSerializer.Deserialize<JsonElement>(message).GetProperty("error"), what)
            );
        throw Failure(
            process is null
                ? $"has closed the connection in {what}; what it printed may say why."
                : $"{process.Ending()}. That was in {what}."
        );
    }

    private string Raised(JsonElement error, string what)
    {
        process?.KeepOutput();
        return $"failed in {what}: {error}. The traceback is in {process?.OutputFile ?? "its own output"}.";
    }

    /// <summary>What is said from now on.</summary>
    private DistillException Failure(string how)
    {
        process?.KeepOutput();
        return failure = new DistillException($"The simulator {config.Title} {how}");
    }

    /// <summary>Where an array <c>[rows, size]</c> is in the shared memory.</summary>
    private readonly record struct Place(int Start, int Rows, int Size);

    /// <summary>The arrays in the shared memory, one after another, each with rows for whole panels.</summary>
    private sealed class Layout
    {
        public Layout(ExternalFacts facts)
        {
            var rows = Panel.Count(facts.Envs) * Panel.Width;
            Actions = Next(facts.Spec.Actions.Floats);
            (Reward, Terminated, Truncated, Mask) = (Next(1), Next(1), Next(1), Next(1));
            Measures = [.. facts.Spec.Measures.Select(_ => Next(1))];
            Observations = [.. facts.Arrays.Select(array => Next(array.Size))];
            Final = facts.Ends ? [.. facts.Arrays.Select(array => Next(array.Size))] : [];

            Place Next(int size)
            {
                var start = Length;
                Length += ((long)rows * size + Alignment - 1) / Alignment * Alignment;
                // What is too long is refused when it is allocated.
                return new Place((int)Math.Min(start, int.MaxValue), rows, size);
            }
        }

        public long Length { get; private set; }
        public Place Actions { get; }
        public Place Reward { get; }
        public Place Terminated { get; }
        public Place Truncated { get; }
        public Place Mask { get; }
        public Place[] Measures { get; }
        public Place[] Observations { get; }
        public Place[] Final { get; }

        /// <summary>As the simulator is told.</summary>
        public object Message(SharedMemory memory, ExternalFacts facts)
        {
            var names = facts.Arrays.Select(array => array.Name);
            return new
            {
                path = memory.Path,
                bytes = memory.Bytes,
                actions = Matrix(Actions),
                reward = Vector(Reward),
                terminated = Vector(Terminated),
                truncated = Vector(Truncated),
                mask = Vector(Mask),
                measures = Named(facts.Spec.Measures.Select(measure => measure.Name), Measures, Vector),
                observations = Named(names, Observations, Matrix),
                final = Named(names, Final, Matrix),
            };

            static object Matrix(Place place) => Told(place, place.Rows, place.Size);

            static object Vector(Place place) => Told(place, place.Rows);

            static object Told(Place place, params int[] shape) =>
                new { offset = (long)place.Start * sizeof(float), shape };

            static Dictionary<string, object> Named(
                IEnumerable<string> names,
                Place[] places,
                Func<Place, object> told
            ) => names.Zip(places).ToDictionary(pair => pair.First, pair => told(pair.Second));
        }
    }
}
