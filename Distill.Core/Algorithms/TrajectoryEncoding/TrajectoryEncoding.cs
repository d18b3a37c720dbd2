using System.Diagnostics;
using Distill.Datasets;
using Distill.Networks;
using Distill.Policies;

namespace Distill.Algorithms;

/// <summary>
/// Trains a trajectory transformer on episodes of several tasks: each window is shown in two masked views; what was masked is
/// reconstructed, and the encodings of the two views are contrasted with those of other windows.
/// </summary>
public sealed class TrajectoryEncoding : IDisposable
{
    private readonly Trajectories data;
    private readonly WorkerPool pool;
    private readonly Optimizer optimizer;
    private readonly FloatBuffer best;
    private readonly InfoNce contrast;
    private readonly RandomStream dropping;
    private readonly int groups;
    private readonly Group[] views;
    private readonly int[] tasks;
    private readonly float[][] encodings;
    private readonly float[][] slopes;
    private readonly int[] counts = new int[2 * TrajectoryWindow.Kinds];
    private readonly Work showing;
    private readonly Work passing;
    private readonly Work learning;

    private readonly Source training;
    private readonly Source validation;

    // The batch that is being made.
    private Source source;
    private long draw;

    private int iteration;
    private long updates;
    private double bestLoss = double.MaxValue;
    private int iterationsSince;

    /// <param name="data">Left as they are; episodes are split whole into those to train on and those to validate with.</param>
    /// <exception cref="DistillException">The settings are wrong, or do not fit the episodes.</exception>
    public TrajectoryEncoding(TrajectoryEncodingConfig config, Trajectories data, WorkerPool pool)
    {
        config.Validate();
        (Config, this.data, this.pool) = (config, data, pool);
        (TrainingEpisodes, ValidationEpisodes) = Split(config, data);
        Transformer = new TrajectoryTransformer(config.Network, data.StateSize, data.ActionSize);
        Transformer.Initialize(new RandomStream(config.Seed, "encoder"));
        best = new FloatBuffer(Transformer.Parameters.Length);
        Transformer.Parameters.Span.CopyTo(best.Span);
        groups = (config.BatchSize + Sequences.Lanes - 1) / Sequences.Lanes;
        optimizer = Schedule
            .Resolve(config, 0)
            .Optimizer.Create(Transformer.Parameters, maxChunks: 2 * groups);
        contrast = new InfoNce(
            config.BatchSize,
            config.Network.Encoding,
            config.Contrast,
            config.Temperature
        );
        dropping = new RandomStream(config.Seed, "encoding.dropout");
        training = Source(TrainingEpisodes, "training", true);
        validation = Source(ValidationEpisodes, "validation", false);
        source = training;
        views = [.. Enumerable.Range(0, 2 * groups).Select(_ => new Group(Transformer))];
        tasks = new int[config.BatchSize];
        encodings = [Encodings(), Encodings()];
        slopes = [Encodings(), Encodings()];
        showing = new Work((item, _) => Show(item));
        passing = new Work(Pass);
        learning = new Work(Learn);

        Source Source(int[] episodes, string name, bool learns) =>
            new(
                episodes,
                learns,
                new RandomStream(config.Seed, $"encoding.{name}.window"),
                new MaskedView(
                    config.MaskProbability,
                    new RandomStream(config.Seed, $"encoding.{name}.mask"),
                    new RandomStream(config.Seed, $"encoding.{name}.noise")
                )
            );

        float[] Encodings() => new float[config.BatchSize * config.Network.Encoding];
    }

    public TrajectoryEncodingConfig Config { get; }

    /// <summary>The network as it is; <see cref="Restore"/> takes it to where the validation loss was lowest.</summary>
    public TrajectoryTransformer Transformer { get; }

    /// <summary>Indices of the episodes that it trains on, ascending.</summary>
    public int[] TrainingEpisodes { get; }

    /// <summary>Indices of the episodes held out, ascending.</summary>
    public int[] ValidationEpisodes { get; }

    /// <summary>Of the last update, in the layout of the parameters.</summary>
    internal ReadOnlySpan<float> Gradient => optimizer.Gradient(0);

    /// <summary>Iterations done.</summary>
    public int Iteration => iteration;

    /// <summary>The lowest validation loss so far.</summary>
    public double BestLoss => bestLoss;

    /// <summary>Whether all iterations are done, or the validation loss has not fallen for too many.</summary>
    public bool Finished =>
        iteration >= Config.Iterations || (Config.Patience > 0 && iterationsSince >= Config.Patience);

    /// <summary>One iteration: its updates, then the loss on the episodes held out.</summary>
    /// <exception cref="DistillException">A loss or a gradient is not finite.</exception>
    public EncodingReport Iterate()
    {
        var start = Stopwatch.GetTimestamp();
        var now = Schedule.Resolve(Config.Optimizer, iteration);
        (optimizer.Config, optimizer.LearningRate) = (now, now.LearningRate.Value);
        var learned = new EncodingLosses();
        for (var i = 0; i < Config.UpdatesPerIteration; i++)
            learned += Update();
        var heldOut = new EncodingLosses();
        for (var i = 0; i < Config.ValidationBatches; i++)
            heldOut += Losses(validation, i);
        heldOut *= 1.0 / Config.ValidationBatches;
        var loss = heldOut.Total(Config.ContrastWeight);
        iterationsSince++;
        if (loss < bestLoss)
        {
            (bestLoss, iterationsSince) = (loss, 0);
            Transformer.Parameters.Span.CopyTo(best.Span);
        }
        return new(
            iteration++,
            updates,
            learned * (1.0 / Config.UpdatesPerIteration),
            heldOut,
            loss,
            bestLoss,
            Stopwatch.GetElapsedTime(start).TotalSeconds
        );
    }

    /// <summary>One update on a batch of windows.</summary>
    public EncodingLosses Update()
    {
        var losses = Losses(training, updates);
        FiniteWatch.Require(losses.Total(Config.ContrastWeight), "loss", iteration);
        pool.Run(learning, views.Length);
        optimizer.Step(pool, views.Length);
        FiniteWatch.Require(optimizer.GradientNorm, "norm of the gradient", iteration);
        updates++;
        return losses;
    }

    /// <summary>Goes back to where the validation loss was lowest.</summary>
    public void Restore() => best.Span.CopyTo(Transformer.Parameters.Span);

    /// <summary>All that training changes.</summary>
    public void Visit(State state)
    {
        state.Count("iteration", ref iteration);
        state.Count("updates", ref updates);
        state.Count("iterations_since", ref iterationsSince);
        state.Amount("best_loss", ref bestLoss);
        state.Part("encoder", Transformer.Visit);
        state.Block("best", best);
        state.Part("optimizer", optimizer.Visit);
    }

    public void Dispose()
    {
        Transformer.Dispose();
        optimizer.Dispose();
        best.Dispose();
        foreach (var view in views)
            view.Dispose();
    }

    /// <summary>Draws a batch, shows it to the network, and finds its losses and their slopes.</summary>
    private EncodingLosses Losses(Source from, long number)
    {
        (source, draw) = (from, number);
        pool.Run(showing, views.Length);
        Array.Clear(counts);
        for (var item = 0; item < views.Length; item++)
        for (var kind = 0; kind < TrajectoryWindow.Kinds; kind++)
            counts[item / groups * TrajectoryWindow.Kinds + kind] += views[item].Counts[kind];
        pool.Run(passing, views.Length);
        var losses = new EncodingLosses();
        foreach (var view in views)
            losses += view.Losses;
        return losses with
        {
            Contrast = contrast.Evaluate(
                encodings[0],
                encodings[1],
                tasks,
                Config.ContrastWeight,
                slopes[0],
                slopes[1]
            ),
        };
    }

    /// <summary>Draws sixteen windows and masks a view of them; both views draw the same windows.</summary>
    private void Show(int item)
    {
        var (view, group) = Math.DivRem(item, groups);
        var own = views[item];
        Array.Clear(own.Counts);
        for (var lane = 0; lane < Sequences.Lanes; lane++)
        {
            var sequence = group * Sequences.Lanes + lane;
            var (high, low, end, _) = source.Windows.Bits((uint)sequence, (uint)draw, (uint)(draw >> 32));
            var word = ((ulong)high << 32) | low;
            var episode = source.Episodes[(int)Math.BigMul(word, (ulong)source.Episodes.Length, out _)];
            var shortest = Math.Min(Config.ShortestWindow, data.Steps);
            var last = shortest - 1 + (int)(((ulong)end * (ulong)(data.Steps - shortest + 1)) >> 32);
            own.Lengths[lane] = data.Gather(episode, last, own.Target, lane);
            own.Keys[lane] = dropping.Bits((uint)sequence, (uint)draw, (uint)(draw >> 32), (uint)view).X0;
            if (view == 0 && sequence < Config.BatchSize)
                tasks[sequence] = data.Tasks[episode];
        }
        own.Begin();
        for (var lane = 0; lane < Lanes(group); lane++)
            source.Masking.Mask(
                own.Window,
                own.Masked.Span,
                lane,
                own.Lengths[lane],
                group * Sequences.Lanes + lane,
                view,
                draw,
                own.Counts
            );
    }

    private void Pass(int item, int worker)
    {
        var (view, group) = Math.DivRem(item, groups);
        var own = views[item];
        Transformer.Forward(
            own.Window,
            Dropout(own),
            own.Activations.Span,
            own.Outputs,
            pool.Workspace(worker)
        );
        own.Losses = new(Reconstruct(own, 0, view), Reconstruct(own, 1, view), Reconstruct(own, 2, view), 0);
        var encoding = own.Outputs.Encoding;
        for (var lane = 0; lane < Lanes(group); lane++)
        for (var i = 0; i < encoding.Features; i++)
            encodings[view][(group * Sequences.Lanes + lane) * encoding.Features + i] = encoding[i, 0, lane];
    }

    /// <summary>The mean squared error of what was masked of a kind, of which there may be more in other groups.</summary>
    private double Reconstruct(Group own, int kind, int view)
    {
        var y = own.Outputs[kind];
        var target = own.Target[kind];
        var dy = own.Slopes[kind];
        var first = kind == 0 ? 0 : target.Tokens * kind + 1;
        var share = 1.0 / Math.Max(1, counts[view * TrajectoryWindow.Kinds + kind] * target.Features);
        var slope = (float)(2 * share);
        var sum = 0.0;
        for (var token = 0; token < target.Tokens; token++)
        for (var feature = 0; feature < target.Features; feature++)
        {
            var masked = own.Masked.Slice((first + token) * Sequences.Lanes, Sequences.Lanes);
            var given = y.At(feature, token);
            var wanted = target.At(feature, token);
            var d = dy.At(feature, token);
            for (var lane = 0; lane < Sequences.Lanes; lane++)
            {
                var error = masked[lane] * (given[lane] - wanted[lane]);
                d[lane] = slope * error;
                sum += error * error;
            }
        }
        return sum * share;
    }

    private void Learn(int item, int worker)
    {
        var (view, group) = Math.DivRem(item, groups);
        var own = views[item];
        var dEncoding = own.Slopes.Encoding;
        for (var lane = 0; lane < Sequences.Lanes; lane++)
        for (var i = 0; i < dEncoding.Features; i++)
            dEncoding[i, 0, lane] =
                lane < Lanes(group)
                    ? slopes[view][(group * Sequences.Lanes + lane) * dEncoding.Features + i]
                    : 0;
        var gradient = optimizer.Gradient(item);
        gradient.Clear();
        Transformer.Backward(
            own.Window,
            Dropout(own),
            own.Activations.Span,
            own.Slopes,
            gradient,
            pool.Workspace(worker)
        );
    }

    private DropoutKeys Dropout(Group own) => source.Learns ? new(own.Keys, Config.Network.Dropout) : default;

    /// <summary>Lanes of a group that are of the batch.</summary>
    private int Lanes(int group) => Math.Min(Sequences.Lanes, Config.BatchSize - group * Sequences.Lanes);

    /// <summary>Every task gives its share of episodes to validation, at least one.</summary>
    private static (int[] Training, int[] Validation) Split(
        TrajectoryEncodingConfig config,
        Trajectories data
    )
    {
        var order = new int[data.Episodes];
        new RandomStream(config.Seed, "encoding.split").Permutation(order, 0);
        List<int> validation = [];
        foreach (var task in data.Tasks.ToArray().Distinct())
        {
            var own = Array.FindAll(order, episode => data.Tasks[episode] == task);
            if (own.Length < 2)
                throw new DistillException(
                    $"Task {task} has one episode; it needs one to train on and one to validate with."
                );
            var count = Math.Clamp((int)Math.Round(config.ValidationShare * own.Length), 1, own.Length - 1);
            validation.AddRange(own[..count]);
        }
        return ([.. order.Except(validation).Order()], [.. validation.Order()]);
    }

    /// <summary>Where batches come from.</summary>
    private sealed record Source(int[] Episodes, bool Learns, RandomStream Windows, MaskedView Masking);

    /// <summary>Sixteen windows in one masked view, and all that the network makes of them.</summary>
    private sealed class Group(TrajectoryTransformer network) : IDisposable
    {
        private readonly int steps = network.Config.Window;
        private readonly FloatBuffer targets = new(network.WindowFloats);
        private readonly FloatBuffer values = new(network.WindowFloats);
        private readonly FloatBuffer outputs = new(TrajectoryOutputs.Size(network, network.Config.Window));
        private readonly FloatBuffer slopes = new(TrajectoryOutputs.Size(network, network.Config.Window));
        private readonly FloatBuffer valid = new(
            TrajectoryWindow.Tokens(network.Config.Window) * Sequences.Lanes
        );

        /// <summary>As the episodes have them.</summary>
        public TrajectoryWindow Target => Of(targets);

        /// <summary>As the network sees them.</summary>
        public TrajectoryWindow Window => Of(values);

        public TrajectoryOutputs Outputs => TrajectoryOutputs.At(outputs.Span, network, steps);

        public TrajectoryOutputs Slopes => TrajectoryOutputs.At(slopes.Span, network, steps);

        public FloatBuffer Masked { get; } =
            new(TrajectoryWindow.Tokens(network.Config.Window) * Sequences.Lanes);

        public FloatBuffer Activations { get; } = new(network.ActivationFloats);

        public int[] Lengths { get; } = new int[Sequences.Lanes];

        public uint[] Keys { get; } = new uint[Sequences.Lanes];

        /// <summary>Masked states, actions and rewards.</summary>
        public int[] Counts { get; } = new int[TrajectoryWindow.Kinds];

        public EncodingLosses Losses { get; set; }

        /// <summary>The view is as yet the window itself.</summary>
        public void Begin()
        {
            targets.Span.CopyTo(values.Span);
            TrajectoryWindow.Mark(valid.Span, Lengths, steps);
        }

        public void Dispose()
        {
            foreach (var buffer in new[] { targets, values, outputs, slopes, valid, Masked, Activations })
                buffer.Dispose();
        }

        private TrajectoryWindow Of(FloatBuffer buffer) =>
            new(
                buffer.Span,
                valid.Span,
                steps,
                network.States,
                network.Actions,
                !Lengths.AsSpan().ContainsAnyExcept(steps)
            );
    }
}
