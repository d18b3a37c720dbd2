using System.Diagnostics;
using System.Text.Json.Nodes;
using Distill.Algorithms;
using Distill.Datasets;
using Distill.Environments;
using Distill.Environments.Manipulation;
using Distill.Environments.Quadrotor;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Benchmarks;

/// <summary>Training steps of students and teachers, through the classes that train them.</summary>
internal static class Training
{
    private static readonly NetworkSpec Mlp = NetworkSpec.Mlp(26, [256, 256, 256], 4);

    /// <summary>Operations of one row: forward, gradient of the weights, and gradient of the inputs but for the first layer.</summary>
    private static readonly double MlpOperations = 2 * (3 * (26 * 256 + 2 * 256 * 256 + 256 * 4) - 26 * 256);

    public static void RunMlp(Session session)
    {
        foreach (var threads in session.Settings.Threads)
        foreach (var batch in session.Settings.Quick ? [64] : new[] { 256, 1024, 8192 })
        {
            var pool = session.Pool(threads);
            using var student = new Student(Mlp, batch, 1, batch, 1, threads);
            Action step = () => student.Train(pool, student.All);
            var oneCore = threads == 1;
            var name = $"{batch:N0} rows";
            session.Compare(
                new Case("mlp", name, "rows/s", threads)
                {
                    Limit = (session.Peaks.Fma(pool), MlpOperations),
                    Goal =
                        !oneCore ? Goal.Ratio(3)
                        : batch >= 1024 ? Goal.Share(0.75)
                        : null,
                },
                session.Ours(batch, step),
                session.PyTorch.Best(threads, new JsonObject { ["job"] = "mlp_step", ["batch"] = batch })
            );
            if (!oneCore || Simd.Path != InstructionSet.Avx512)
                continue;
            session.Compare(
                new Case("mlp", name, "rows/s", threads)
                {
                    Path = InstructionSet.Avx2,
                    Limit = (session.Peaks.Fma(pool), MlpOperations),
                    Goal = Goal.Ratio(0.5),
                },
                session.Ours(batch, step, InstructionSet.Avx2),
                session.Ours(batch, step)
            );
        }
    }

    public static void RunEpoch(Session session)
    {
        var threads = session.Settings.Threads.Max();
        var pool = session.Pool(threads);
        var rows = session.Settings.Size(1_000_000, 2048);
        const int Batch = 512;
        using var student = new Student(Mlp, rows, 1, Batch, 1, threads);
        var sampler = new Sampler(new Permutation(), new RandomStream(1, "sampling"));
        var gather = new Gathering(student.Data, Batch);
        var epoch = 0L;
        session.Compare(
            new Case("epoch", $"{rows:N0} rows, batch {Batch}", "rows/s", threads)
            {
                Limit = (session.Peaks.Fma(pool), MlpOperations),
                Goal = Goal.Ratio(3),
            },
            session.Ours(rows, () => Epoch(student.Train)),
            session.PyTorch.Best(
                threads,
                new JsonObject
                {
                    ["job"] = "mlp_epoch",
                    ["rows"] = rows,
                    ["batch"] = Batch,
                },
                new JsonObject { ["job"] = "mlp_step", ["batch"] = Batch }
            )
        );

        // Rows lie anywhere in memory, so that whole cache lines come for parts of them.
        var order = sampler.Order(pool, student.Data, rows, epoch++).ToArray();
        session.Compare(
            new Case("epoch", "gather alone, in random order", "rows/s", threads)
            {
                Limit = (session.Peaks.Memory(pool), Gathering.BytesPerRow),
            },
            session.Ours(rows, () => Batches(order, gather.Gather))
        );

        // What the epoch spends on the order and on collecting its rows, next to whole epochs.
        List<double> shares = [];
        List<double> permutations = [];
        for (var i = 0; i < session.Settings.Repetitions; i++)
        {
            var whole = Seconds(() => Epoch(student.Train));
            var part = Seconds(() => Epoch(gather.Gather));
            permutations.Add(Seconds(() => sampler.Order(pool, student.Data, rows, epoch++)) / whole);
            shares.Add(100 * part / whole);
        }
        session.Add(
            "epoch",
            "permutation and gather",
            threads,
            "% of the epoch",
            shares,
            5,
            $"the permutation alone {100 * Spread.Of(permutations).Median:F1} %"
        );

        void Epoch(Action<WorkerPool, ReadOnlySpan<int>> train) =>
            Batches(sampler.Order(pool, student.Data, rows, epoch++), train);

        void Batches(ReadOnlySpan<int> order, Action<WorkerPool, ReadOnlySpan<int>> train)
        {
            for (var start = 0; start < order.Length; start += Batch)
                train(pool, order.Slice(start, Math.Min(Batch, order.Length - start)));
        }
    }

    public static void RunGru(Session session) => RunRecurrent(session, new Gru(16), gates: 3, goal: 4e6);

    public static void RunLstm(Session session) => RunRecurrent(session, new Lstm(16), gates: 4, goal: 3e6);

    /// <param name="gates">Products with the input, and as many with the memory.</param>
    /// <param name="goal">Rows per second and core.</param>
    private static void RunRecurrent(Session session, LayerSpec memory, int gates, double goal)
    {
        var hidden = memory.Size;
        var sequences = 64;
        var steps = session.Settings.Size(500, 20);
        foreach (var threads in session.Settings.Threads)
        {
            var pool = session.Pool(threads);
            using var student = new Student(
                NetworkSpec.RecurrentStack(22, hidden, memory, 0, 4),
                sequences * steps,
                steps,
                sequences,
                steps,
                threads
            );
            // Operations of one step of one sequence, forward and backward, as for the network without memory.
            var products = 22 * hidden + 2 * gates * hidden * hidden + hidden * 4;
            var parallel = session.PyTorch.Best(
                threads,
                new JsonObject
                {
                    ["job"] = $"{memory.Kind}_step",
                    ["hidden"] = hidden,
                    ["steps"] = steps,
                    ["sequences"] = sequences,
                }
            );
            session.Compare(
                new Case(memory.Kind, $"{sequences} sequences of {steps}", "rows/s", threads)
                {
                    Limit = (session.Peaks.Fma(pool), 2.0 * (3 * products - 22 * hidden)),
                    Goal = threads == 1 ? Goal.Value(goal) : Goal.Ratio(10),
                },
                session.Ours((double)sequences * steps, () => student.Train(pool, student.All)),
                parallel
            );
        }
    }

    public static void RunPpo(Session session)
    {
        foreach (var config in new[] { new PpoConfig(), PpoConfig.Quadrotor })
        foreach (var threads in session.Settings.Threads)
            TrainPpo(session, config, threads);
    }

    private static void TrainPpo(Session session, PpoConfig config, int threads)
    {
        var pool = session.Pool(threads);
        var environment = new QuadrotorConfig
        {
            Envs = session.Settings.Size(4096, 128),
            Task = QuadrotorTask.Position,
        };
        using var ppo = new Ppo(config, environment, pool);
        var (collecting, learning) = (0.0, 0.0);

        // Forward once to collect, then forward and backward in every pass; the first layers need no input gradient.
        const int FirstLayer = 26 * 64;
        const int Products = 2 * (FirstLayer + 64 * 64) + 64 * (4 + 1);
        var learn = config.NumLearningEpochs.Whole * (3 * Products - 2 * FirstLayer);
        session.Compare(
            new Case(
                "ppo",
                $"{environment.Envs:N0} envs, 26-64-64-4, {config.NumLearningEpochs} passes, {config.NumMiniBatches} mini-batches",
                "env steps/s",
                threads
            )
            {
                Limit = (session.Peaks.Fma(pool), 2.0 * (Products + learn)),
                Goal = threads == 1 || config == PpoConfig.Quadrotor ? null : Goal.Value(1e6),
            },
            session.Ours(
                (double)environment.Envs * config.StepsPerEnv,
                () =>
                {
                    var report = ppo.Iterate();
                    collecting += report.CollectionSeconds;
                    learning += report.LearningSeconds;
                }
            )
        );
        session.Say($"    collection {100 * collecting / (collecting + learning):F0} % of the time");
    }

    /// <summary>Steps of SAC as RAPTOR trains a teacher, and updates alone of the size that manipulation takes.</summary>
    public static void RunSac(Session session)
    {
        var quick = session.Settings.Quick;
        var environment = new QuadrotorConfig { Envs = 1 };
        var published = SacConfig.Raptor with { StepsPerEnv = quick ? 50 : 500, LearningStarts = 0 };
        using var one = new Sac(published, environment, session.Pool(1));
        session.Compare(
            new Case("sac", "1 quadrotor, an update after each step, as RAPTOR's teachers", "env steps/s", 1),
            session.Ours(published.StepsPerEnv, () => one.Iterate())
        );
        foreach (var threads in session.Settings.Threads)
        {
            RunSacUpdates(session, environment, threads);
            RunSacUpdates(session, new ManipulationConfig { Envs = 1 }, threads);
        }
    }

    /// <summary>Updates of the size that manipulation takes, with an environment's observations.</summary>
    private static void RunSacUpdates(Session session, IEnvironmentConfig environment, int threads)
    {
        // One step of the environment, for so many updates that it costs nothing.
        var updates = session.Settings.Size(64, 4);
        var batch = session.Settings.Size(512, 64);
        var network = new MlpStudent
        {
            ObservationGroup = "teacher",
            Hidden = [256, 256],
            Activation = Activation.Relu,
        };
        var config = new SacConfig
        {
            StepsPerEnv = 1,
            LearningStarts = 0,
            UpdateToData = updates,
            ActorInterval = 1,
            MiniBatchSize = batch,
            ReplayCapacity = 100_000,
            Actor = network,
            Critic = network,
            Optimizer = new AdamConfig { LearningRate = 3e-4, MaxGradNorm = 0 },
        };
        Sac sac;
        try
        {
            sac = new Sac(config, environment, session.Pool(threads));
        }
        catch (DistillException missing)
        {
            session.Warn(missing.Message);
            return;
        }
        using (sac)
        {
            var inputs = sac.Actor.Network.Spec.Inputs;
            var request = new JsonObject
            {
                ["job"] = "sac_update",
                ["batch"] = batch,
                ["observations"] = inputs,
            };
            session.Compare(
                new Case("sac", $"updates of {inputs}-256-256-4, batch {batch}", "updates/s", threads)
                {
                    Goal = Goal.Ratio(3),
                },
                session.Ours(updates, () => sac.Iterate()),
                session.PyTorch.Best(threads, request)
            );
        }
    }

    /// <summary>Updates of a trajectory transformer: 59 tokens of 32, three layers, two masked views of each window, both losses.</summary>
    public static void RunTransformer(Session session)
    {
        var config = new TrajectoryEncodingConfig
        {
            BatchSize = session.Settings.Quick ? 16 : 128,
            ShortestWindow = 20,
        };
        const int Episodes = 12;
        const int Steps = 100;
        var random = new RandomStream(1, "episodes");
        var data = new Trajectories(
            Steps,
            Random(21),
            Random(4),
            Random(1),
            [.. Enumerable.Range(0, Episodes).Select(episode => episode % 3)]
        );

        // Products of one window: of the tokens with matrices, and of their attention; then forward and backward.
        var net = config.Network;
        var tokens = 3.0 * net.Window - 1;
        var layer =
            tokens * (4 * net.Model * net.Model + 2 * net.Model * net.FeedForward)
            + 2 * tokens * tokens * net.Model;
        var ends = 2.0 * net.Model * (net.Window * 21 + (net.Window - 1) * (4 + 1));
        var operations = 2 * 3 * (net.Layers * layer + ends) * 2 * config.BatchSize;
        foreach (var threads in session.Settings.Threads)
        {
            var pool = session.Pool(threads);
            using var training = new TrajectoryEncoding(config, data, pool);
            session.Compare(
                new Case("transformer", $"batch {config.BatchSize}", "updates/s", threads)
                {
                    Limit = (session.Peaks.Fma(pool), operations),
                    Goal = Goal.Ratio(2),
                },
                session.Ours(1, () => training.Update()),
                session.PyTorch.Best(
                    threads,
                    new JsonObject { ["job"] = "transformer_step", ["batch"] = config.BatchSize }
                )
            );
        }

        float[] Random(int size) =>
            [
                .. Enumerable
                    .Range(0, Episodes * Steps * size)
                    .Select(i => random.Uniform((uint)i, (uint)size)),
            ];
    }

    /// <summary>
    /// Many one-thread trainings on one machine: child processes of this program, each of which trains for a repetition
    /// when it is told to.
    /// </summary>
    public static void RunMany(Session session)
    {
        var runs = session.Settings.Threads.Max();
        var program = Environment.ProcessPath!;
        string[] arguments = [typeof(Training).Assembly.Location, Program.ServeTraining];
        var children = Enumerable
            .Range(0, runs)
            .Select(_ => new PeerProcess(program, arguments, []))
            .ToArray();
        try
        {
            var seconds = Math.Max(session.Settings.Seconds, session.Settings.Quick ? 0 : 1);
            session.Compare(
                new Case("many", $"{runs} one-thread trainings", "rows/s", 1)
                {
                    Goal = Goal.Ratio(0.9 * runs),
                },
                new Contender($"{runs} processes", () => Together(runs)),
                new Contender("one process", () => Together(1))
            );

            double Together(int count)
            {
                foreach (var child in children.AsSpan(0, count))
                    child.Send(new JsonObject { ["seconds"] = seconds });
                return children.Take(count).Sum(child => child.Answer()["rate"]!.GetValue<double>());
            }
        }
        finally
        {
            foreach (var child in children)
                child.Dispose();
        }
    }

    /// <summary>The child's side of <see cref="RunMany"/>: a rate per line.</summary>
    public static void Serve(TextReader requests, TextWriter answers)
    {
        const int Batch = 512;
        using var pool = new WorkerPool(1);
        using var student = new Student(Mlp, 16 * Batch, 1, Batch, 1, 1);
        var batch = student.All.AsSpan(0, Batch).ToArray();
        while (requests.ReadLine() is { } line)
        {
            var seconds = JsonNode.Parse(line)!["seconds"]!.GetValue<double>();
            var start = Stopwatch.GetTimestamp();
            var rows = 0.0;
            do
            {
                student.Train(pool, batch);
                rows += Batch;
            } while (Stopwatch.GetElapsedTime(start).TotalSeconds < seconds);
            var rate = rows / Stopwatch.GetElapsedTime(start).TotalSeconds;
            answers.WriteLine(new JsonObject { ["rate"] = rate }.ToJsonString());
            answers.Flush();
        }
    }

    private static double Seconds(Action work)
    {
        var start = Stopwatch.GetTimestamp();
        work();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    /// <summary>A student with a dataset of random numbers to train on.</summary>
    private sealed class Student : IDisposable
    {
        private readonly Policy policy;
        private readonly StudentTrainer trainer;

        public Student(NetworkSpec spec, int rows, int segment, int batch, int gradientLength, int threads)
        {
            policy = new Policy(spec, "student");
            policy.Network.Initialize(new RandomStream(1, "student"));
            trainer = new StudentTrainer(
                policy,
                new MeanSquared(),
                new AdamConfig(),
                gradientLength,
                batch,
                segment
            );
            Data = Rows.Random(rows, segment, spec.Inputs, spec.Outputs, policy.MemorySize);
            All = [.. Enumerable.Range(0, rows / segment)];
        }

        public AggregatedDataset Data { get; }

        /// <summary>All segments in order.</summary>
        public int[] All { get; }

        public void Train(WorkerPool pool, ReadOnlySpan<int> batch) => trainer.Train(pool, Data, batch);

        public void Dispose()
        {
            trainer.Dispose();
            policy.Dispose();
            Data.Dispose();
        }
    }

    /// <summary>Collects the rows of mini-batches as training does, and nothing more.</summary>
    private sealed class Gathering(AggregatedDataset data, int batch) : IWork
    {
        private readonly int[] rows = new int[batch];
        private int count;
        private WorkerPool pool = null!;

        /// <summary>Bytes that a row occupies in the dataset: observation, action and two flags.</summary>
        public static double BytesPerRow =>
            AggregatedDataset.EstimateBytes(1, Rows.Columns(Mlp.Inputs, Mlp.Outputs)) + 2 * sizeof(byte);

        public void Gather(WorkerPool pool, ReadOnlySpan<int> order)
        {
            order.CopyTo(rows);
            (count, this.pool) = (order.Length, pool);
            pool.Run(this, Panel.Count(count));
        }

        public void Run(int panel, int worker)
        {
            var own = pool.Workspace(worker);
            using var scope = own.Open();
            var first = panel * Panel.Width;
            data.Gather(
                rows.AsSpan(first, Math.Min(Panel.Width, count - first)),
                0,
                own.Panel(data.Columns.Size),
                own.Panel(1),
                own.Panel(1),
                own
            );
        }
    }
}
