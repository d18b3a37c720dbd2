namespace Distill.Networks;

/// <summary>What a trajectory transformer gives for sixteen windows.</summary>
/// <param name="encoding"><c>[encoding, 1, 16]</c>.</param>
public readonly ref struct TrajectoryOutputs(
    Sequences states,
    Sequences actions,
    Sequences rewards,
    Sequences encoding
)
{
    /// <summary>The states as it would have them, <c>[state, n, 16]</c>.</summary>
    public Sequences States { get; } = states;

    /// <summary>Likewise, <c>[action, n - 1, 16]</c>.</summary>
    public Sequences Actions { get; } = actions;

    /// <summary>Likewise, <c>[1, n - 1, 16]</c>.</summary>
    public Sequences Rewards { get; } = rewards;

    /// <summary>From the class token, <c>[encoding, 1, 16]</c>.</summary>
    public Sequences Encoding { get; } = encoding;

    /// <summary>Those of a kind: 0 states, 1 actions, 2 rewards.</summary>
    public Sequences this[int kind] =>
        kind switch
        {
            0 => States,
            1 => Actions,
            _ => Rewards,
        };

    /// <summary>Floats of all of them for sixteen windows of so many steps.</summary>
    public static int Size(TrajectoryTransformer network, int steps) =>
        TrajectoryWindow.Size(steps, network.States, network.Actions)
        + network.Config.Encoding * Sequences.Lanes;

    /// <summary>Places them one after another.</summary>
    /// <param name="values">As many as <see cref="Size"/> says.</param>
    public static TrajectoryOutputs At(Span<float> values, TrajectoryTransformer network, int steps)
    {
        var (states, actions) = (network.States * steps, network.Actions * (steps - 1));
        return new(
            new(values, network.States, steps),
            new(values[(states * Sequences.Lanes)..], network.Actions, steps - 1),
            new(values[((states + actions) * Sequences.Lanes)..], 1, steps - 1),
            new(values[((states + actions + steps - 1) * Sequences.Lanes)..], network.Config.Encoding, 1)
        );
    }
}

/// <summary>
/// Each state, action and reward of the last steps is a token: a linear embedding of its kind, normalized, plus what was learned for its step, which the
/// three of a step share. A class token comes last; its output, through a linear head, is the encoding, and those of the others
/// reconstruct what went in. Attention knows no order but the steps', so memory holds the tokens kind by kind: states, actions,
/// rewards, class token, where the paper has s0, a0, r0, s1, ..., class token. Changed by nobody while it runs: any number of threads
/// may use it at once.
/// </summary>
public sealed class TrajectoryTransformer : IDisposable
{
    private const float ClassStart = -2;

    private readonly Linear[] embeddings;
    private readonly LayerNorm[] norms;
    private readonly int positions;
    private readonly int classToken;
    private readonly EncoderLayer[] layers;
    private readonly Linear[] heads;
    private readonly Linear encodingHead;

    /// <param name="states">Numbers of a state.</param>
    /// <param name="actions">Numbers of an action.</param>
    /// <exception cref="DistillException">The configuration cannot work.</exception>
    public TrajectoryTransformer(TransformerConfig config, int states, int actions)
    {
        config.Check();
        if (states < 1 || actions < 1)
            throw new DistillException(
                $"A trajectory needs states and actions, not {states} and {actions} numbers."
            );
        (Config, States, Actions) = (config, states, actions);
        var size = config.Model;
        (string Kind, int Size)[] kinds = [("state", states), ("action", actions), ("reward", 1)];
        var end = 0;
        embeddings =
        [
            .. kinds.Select(kind => Placed(new Linear($"{kind.Kind}_embedding", end, kind.Size, size))),
        ];
        norms = [.. kinds.Select(kind => PlacedNorm(new LayerNorm($"{kind.Kind}_norm", end, size)))];
        positions = end;
        classToken = end += config.Window * size;
        end += size;
        layers = new EncoderLayer[config.Layers];
        for (var i = 0; i < layers.Length; i++)
        {
            layers[i] = new EncoderLayer(config, i, end);
            end = layers[i].End;
        }
        heads = [.. kinds.Select(kind => Placed(new Linear($"{kind.Kind}_head", end, size, kind.Size)))];
        encodingHead = Placed(new Linear("encoding_head", end, size, config.Encoding));
        ParameterCount = end;
        Parameters = new FloatBuffer(Matrix.Padded(end));
        Views =
        [
            .. embeddings.SelectMany(layer => layer.Views()),
            .. norms.SelectMany(norm => norm.Views),
            new("positions", [config.Window, size], positions),
            new("class_token", [size], classToken),
            .. layers.SelectMany(layer => layer.Views),
            .. heads.SelectMany(layer => layer.Views()),
            .. encodingHead.Views(),
        ];

        Linear Placed(Linear layer)
        {
            end = layer.End;
            return layer;
        }
        LayerNorm PlacedNorm(LayerNorm norm)
        {
            end = norm.End;
            return norm;
        }
    }

    public TransformerConfig Config { get; }

    /// <summary>Numbers of a state.</summary>
    public int States { get; }

    /// <summary>Numbers of an action.</summary>
    public int Actions { get; }

    /// <summary>All parameters, padded with zeros to a multiple of 16.</summary>
    public FloatBuffer Parameters { get; }

    /// <summary>Number of parameters without the padding.</summary>
    public int ParameterCount { get; }

    /// <summary>The named parts of <see cref="Parameters"/>; those of the layers have PyTorch's names.</summary>
    public IReadOnlyList<ParameterView> Views { get; }

    /// <summary>The parameters of a view.</summary>
    public Span<float> this[ParameterView view] => Parameters.Slice(view.Offset, view.Length);

    /// <summary>Floats that sixteen windows of the full length keep from forward to backward.</summary>
    public int ActivationFloats =>
        TokenActivations * TrajectoryWindow.Tokens(Config.Window) * Sequences.Lanes;

    /// <summary>Floats of the values of sixteen windows of the full length.</summary>
    public int WindowFloats => TrajectoryWindow.Size(Config.Window, States, Actions);

    private int EmbeddingActivations => 2 * Config.Model + 1;

    private int TokenActivations => EmbeddingActivations + layers.Length * layers[0].ActivationSize;

    /// <summary>As PyTorch draws them; the table of positions begins at 0 and the class token at -2.</summary>
    public void Initialize(RandomStream stream)
    {
        var values = Parameters.Span;
        foreach (var linear in embeddings.Concat(heads).Append(encodingHead))
        {
            var range = 1 / Math.Sqrt(linear.Inputs);
            linear.Initialize(values, stream, range, range);
        }
        foreach (var norm in norms)
            norm.Initialize(values);
        values.Slice(positions, Config.Window * Config.Model).Clear();
        values.Slice(classToken, Config.Model).Fill(ClassStart);
        foreach (var layer in layers)
            layer.Initialize(values, stream);
    }

    /// <summary>The encodings of sixteen windows, without dropout.</summary>
    /// <param name="encoding">Receives <c>[encoding, 1, 16]</c>.</param>
    public void Encode(TrajectoryWindow window, Sequences encoding, Workspace own)
    {
        using var scope = own.Open();
        var tokens = TrajectoryWindow.Tokens(window.Steps);
        var embedded = own.Sequences(EmbeddingActivations, tokens);
        Embed(window, embedded);
        var x = embedded.Rows(0, Config.Model);
        var now = own.Sequences(layers[0].ActivationSize, tokens);
        var next = own.Sequences(layers[0].ActivationSize, tokens);
        foreach (var layer in layers.AsSpan(..^1))
        {
            layer.Forward(Parameters.Span, x, window.Valid, default, now, own);
            x = layer.Output(now);
            var free = next;
            next = now;
            now = free;
        }
        // Of the last layer only the class token's output is read.
        var last = own.Sequences(layers[^1].ActivationSize, 1);
        layers[^1].ForwardLast(Parameters.Span, x, window.Valid, last, own);
        encodingHead.Forward(Parameters.Span, layers[^1].Output(last), encoding);
    }

    /// <summary>Forward, with all heads.</summary>
    /// <param name="activations">At least <see cref="ActivationFloats"/>, written.</param>
    public void Forward(
        TrajectoryWindow window,
        DropoutKeys dropout,
        Span<float> activations,
        TrajectoryOutputs outputs,
        Workspace own
    )
    {
        var tokens = TrajectoryWindow.Tokens(window.Steps);
        var kept = new Sequences(activations, TokenActivations, tokens);
        Embed(window, kept.Rows(0, EmbeddingActivations));
        for (var i = 0; i < layers.Length; i++)
            layers[i]
                .Forward(Parameters.Span, InputOf(i, kept), window.Valid, dropout, OfLayer(i, kept), own);
        var y = InputOf(layers.Length, kept);
        for (var kind = 0; kind < heads.Length; kind++)
            if (Tokens(y, kind, window.Steps) is { IsEmpty: false } part)
                heads[kind].Forward(Parameters.Span, part, outputs[kind]);
        encodingHead.Forward(Parameters.Span, y.Part(tokens - 1, 1), outputs.Encoding);
    }

    /// <summary>Adds to the gradient what came from the outputs.</summary>
    /// <param name="activations">As <see cref="Forward"/> left them.</param>
    /// <param name="gradient">In the layout of <see cref="Parameters"/>.</param>
    public void Backward(
        TrajectoryWindow window,
        DropoutKeys dropout,
        Span<float> activations,
        TrajectoryOutputs dOutputs,
        Span<float> gradient,
        Workspace own
    )
    {
        using var scope = own.Open();
        var parameters = Parameters.Span;
        var tokens = TrajectoryWindow.Tokens(window.Steps);
        var kept = new Sequences(activations, TokenActivations, tokens);
        var d = own.Sequences(Config.Model, tokens);
        var y = InputOf(layers.Length, kept);
        for (var kind = 0; kind < heads.Length; kind++)
            if (Tokens(y, kind, window.Steps) is { IsEmpty: false } part)
                heads[kind]
                    .Backward(
                        parameters,
                        part,
                        dOutputs[kind],
                        Tokens(d, kind, window.Steps),
                        Start.FromZero,
                        gradient
                    );
        encodingHead.Backward(
            parameters,
            y.Part(tokens - 1, 1),
            dOutputs.Encoding,
            d.Part(tokens - 1, 1),
            Start.FromZero,
            gradient
        );
        for (var i = layers.Length - 1; i >= 0; i--)
            layers[i]
                .Backward(
                    parameters,
                    InputOf(i, kept),
                    window.Valid,
                    dropout,
                    OfLayer(i, kept),
                    d,
                    gradient,
                    own
                );
        EmbedBackward(window, kept.Rows(0, EmbeddingActivations), d, gradient, own);
    }

    /// <summary>The parameters for checkpoints: a block for each view.</summary>
    public void Visit(State state)
    {
        foreach (var view in Views)
            state.Block(view.Name, this[view]);
    }

    public void Dispose() => Parameters.Dispose();

    private void Embed(TrajectoryWindow window, Sequences kept)
    {
        var parameters = Parameters.Span;
        var size = Config.Model;
        var x = kept.Rows(0, size);
        var normed = kept.Rows(size, size);
        var scales = kept.Rows(2 * size, 1);
        for (var kind = 0; kind < embeddings.Length; kind++)
            if (Tokens(x, kind, window.Steps) is { IsEmpty: false } part)
            {
                var inNormed = Tokens(normed, kind, window.Steps);
                embeddings[kind].Forward(parameters, window[kind], inNormed);
                norms[kind]
                    .Forward(
                        parameters,
                        default,
                        inNormed,
                        Dropout.None,
                        inNormed,
                        Tokens(scales, kind, window.Steps),
                        part
                    );
                SequenceMath.AddToTokens(parameters.Slice(positions, window.Steps * size), part);
            }
        var last = x.Part(x.Tokens - 1, 1);
        for (var feature = 0; feature < size; feature++)
            last.Row(feature).Fill(parameters[classToken + feature]);
    }

    private void EmbedBackward(
        TrajectoryWindow window,
        Sequences kept,
        Sequences d,
        Span<float> gradient,
        Workspace own
    )
    {
        var size = Config.Model;
        var normed = kept.Rows(size, size);
        var scales = kept.Rows(2 * size, 1);
        SequenceMath.AddSums(d.Part(d.Tokens - 1, 1), default, gradient.Slice(classToken, size));
        for (var kind = 0; kind < embeddings.Length; kind++)
            if (Tokens(d, kind, window.Steps) is { IsEmpty: false } part)
            {
                using var scope = own.Open();
                SequenceMath.AddTokenSums(part, gradient.Slice(positions, window.Steps * size));
                var dEmbedded = own.Sequences(size, part.Tokens);
                norms[kind]
                    .Backward(
                        Parameters.Span,
                        Tokens(normed, kind, window.Steps),
                        Tokens(scales, kind, window.Steps),
                        Dropout.None,
                        part,
                        dEmbedded,
                        gradient
                    );
                embeddings[kind]
                    .Backward(Parameters.Span, window[kind], dEmbedded, default, Start.FromZero, gradient);
            }
    }

    private Sequences OfLayer(int layer, Sequences kept) =>
        kept.Rows(EmbeddingActivations + layer * layers[0].ActivationSize, layers[0].ActivationSize);

    private Sequences InputOf(int layer, Sequences kept) =>
        layer == 0 ? kept.Rows(0, Config.Model) : layers[layer - 1].Output(OfLayer(layer - 1, kept));

    /// <summary>Those of a kind: 0 states, 1 actions, 2 rewards.</summary>
    private static Sequences Tokens(Sequences all, int kind, int steps) =>
        kind == 0 ? all.Part(0, steps) : all.Part(steps + (kind - 1) * (steps - 1), steps - 1);
}
