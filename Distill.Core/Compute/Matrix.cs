namespace Distill.Compute;

/// <summary>What a matrix product adds to.</summary>
public enum Start
{
    /// <summary>C = A B.</summary>
    FromZero,

    /// <summary>C[m, :] = bias[m] + (A B)[m, :].</summary>
    FromBias,

    /// <summary>C += A B.</summary>
    FromValues,
}

/// <summary>
/// Matrix products and layout changes on panels. The three products of a dense layer with weights W <c>[out, in]</c> and
/// panels X <c>[in, 32]</c>, Y <c>[out, 32]</c> are all the same kernel with other strides: Y = W X, dX = W' dY, and
/// dW += dY X', for which X is turned into rows first. The products and <see cref="ToRows"/> take half panels as well.
/// </summary>
public static unsafe class Matrix
{
    private static readonly Kernels<MatrixKernels> All = new(typeof(MatrixW512));

    /// <summary>Rows of <see cref="ToRows"/> are padded with zeros to a multiple of this.</summary>
    public const int RowPadding = 16;

    /// <summary>Features of a row after padding.</summary>
    public static int Padded(int features) => (features + RowPadding - 1) / RowPadding * RowPadding;

    /// <summary>Y = W X + bias. W <c>[outputs, inputs]</c>, X <c>[inputs, 32]</c>, Y <c>[outputs, 32]</c>.</summary>
    public static void Forward(ReadOnlySpan<float> weights, ReadOnlySpan<float> bias, Panel x, Panel y)
    {
        var (inputs, outputs, width) = (x.Features, y.Features, x.Lanes);
        Check(weights.Length, outputs * inputs, nameof(weights));
        Check(bias.Length, outputs, nameof(bias));
        CheckLanes(y, width);
        fixed (
            float* a = weights,
                b = x.Values,
                c = y.Values,
                start = bias
        )
            Multiply(a, inputs, 1, b, width, c, width, outputs, inputs, width, Start.FromBias, start);
    }

    /// <summary>dX (+)= W' dY. W <c>[outputs, inputs]</c>, dY <c>[outputs, 32]</c>, dX <c>[inputs, 32]</c>.</summary>
    public static void InputGradient(ReadOnlySpan<float> weights, Panel dy, Panel dx, Start start)
    {
        var (inputs, outputs, width) = (dx.Features, dy.Features, dy.Lanes);
        Check(weights.Length, outputs * inputs, nameof(weights));
        CheckLanes(dx, width);
        if (start == Start.FromBias)
            throw new ArgumentException("An input gradient has no bias to start from.", nameof(start));
        fixed (
            float* a = weights,
                b = dy.Values,
                c = dx.Values
        )
            Multiply(a, 1, inputs, b, width, c, width, inputs, outputs, width, start, null);
    }

    /// <summary>Y = W X + bias on all tokens: W <c>[outputs, inputs]</c>.</summary>
    public static void Forward(
        ReadOnlySpan<float> weights,
        ReadOnlySpan<float> bias,
        Sequences x,
        Sequences y
    )
    {
        var (inputs, outputs) = (x.Features, y.Features);
        Check(weights.Length, outputs * inputs, nameof(weights));
        Check(bias.Length, outputs, nameof(bias));
        CheckLanes(y, x);
        fixed (
            float* a = weights,
                b = x.Values,
                c = y.Values,
                start = bias
        )
            Multiply(
                a,
                inputs,
                1,
                b,
                x.Stride,
                c,
                y.Stride,
                outputs,
                inputs,
                x.Columns,
                Start.FromBias,
                start
            );
    }

    /// <summary>dX (+)= W' dY on all tokens: W <c>[outputs, inputs]</c>.</summary>
    public static void InputGradient(ReadOnlySpan<float> weights, Sequences dy, Sequences dx, Start start)
    {
        var (inputs, outputs) = (dx.Features, dy.Features);
        Check(weights.Length, outputs * inputs, nameof(weights));
        CheckLanes(dy, dx);
        if (start == Start.FromBias)
            throw new ArgumentException("An input gradient has no bias to start from.", nameof(start));
        fixed (
            float* a = weights,
                b = dy.Values,
                c = dx.Values
        )
            Multiply(a, 1, inputs, b, dy.Stride, c, dx.Stride, inputs, outputs, dy.Columns, start, null);
    }

    /// <summary>
    /// dW += dY X'. dY <c>[outputs, 32]</c>, X as rows <c>[32, padded inputs]</c> (<see cref="ToRows"/>), dW <c>[outputs, inputs]</c>.
    /// </summary>
    public static void WeightGradient(Panel dy, ReadOnlySpan<float> xRows, Span<float> dWeights, int inputs)
    {
        var padded = Padded(inputs);
        var (outputs, width) = (dy.Features, dy.Lanes);
        Check(xRows.Length, width * padded, nameof(xRows));
        Check(dWeights.Length, outputs * inputs, nameof(dWeights));
        var whole = inputs / RowPadding * RowPadding;
        fixed (
            float* a = dy.Values,
                b = xRows,
                c = dWeights
        )
        {
            if (whole > 0)
                Multiply(a, width, 1, b, padded, c, inputs, outputs, width, whole, Start.FromValues, null);
            if (whole == inputs)
                return;
            if (whole > 0)
            {
                // The last group ends where the row ends. The columns it shares with the group before get zeros added.
                var last = c + inputs - RowPadding;
                Multiply(
                    a,
                    width,
                    1,
                    b + whole,
                    padded,
                    last,
                    inputs,
                    outputs,
                    width,
                    RowPadding,
                    Start.FromValues,
                    null
                );
                return;
            }
            // Rows shorter than a group go through a small tile, so that nothing is written outside them.
            const int TileRows = 16;
            var tile = stackalloc float[TileRows * RowPadding];
            var padding = RowPadding - inputs;
            for (var row = 0; row < outputs; row += TileRows)
            {
                var rows = Math.Min(TileRows, outputs - row);
                var first = a + row * width;
                for (var r = 0; r < rows; r++)
                for (var column = 0; column < inputs; column++)
                    tile[r * RowPadding + padding + column] = c[(row + r) * inputs + column];
                Multiply(
                    first,
                    width,
                    1,
                    b,
                    padded,
                    tile,
                    RowPadding,
                    rows,
                    width,
                    RowPadding,
                    Start.FromValues,
                    null
                );
                for (var r = 0; r < rows; r++)
                for (var column = 0; column < inputs; column++)
                    c[(row + r) * inputs + column] = tile[r * RowPadding + padding + column];
            }
        }
    }

    /// <summary>
    /// Panel <c>[features, 32]</c> to rows <c>[32, padded features]</c>. The zeros of the padding stand before the
    /// features of the last, ragged group of 16, so that this group ends with the row.
    /// </summary>
    public static void ToRows(Panel panel, Span<float> rows)
    {
        var (features, width) = (panel.Features, panel.Lanes);
        var padded = Padded(features);
        Check(rows.Length, width * padded, nameof(rows));
        fixed (
            float* source = panel.Values,
                target = rows
        )
        {
            var whole = features / RowPadding * RowPadding;
            Transpose.Blocks(source, width, target, padded, whole, width);
            if (whole == features)
                return;
            var group = stackalloc float[RowPadding * Panel.Width];
            var padding = (padded - features) * width;
            new Span<float>(group, padding).Clear();
            panel
                .Rows(whole, features - whole)
                .Values.CopyTo(new Span<float>(group + padding, (features - whole) * width));
            Transpose.Blocks(group, width, target + whole, padded, RowPadding, width);
        }
    }

    /// <summary>Panel <c>[features, 32]</c> to packed rows: row r goes to <c>rows[r * stride ..]</c>, for the first <paramref name="count"/> lanes.</summary>
    /// <exception cref="ArgumentException">Rows would overlap, or there are not that many lanes.</exception>
    public static void Scatter(Panel panel, Span<float> rows, int stride, int count) =>
        Scatter(panel.Values, panel.Features, panel.Lanes, rows, stride, count);

    /// <summary>The same of a panel's values, which are only read.</summary>
    public static void Scatter(
        ReadOnlySpan<float> panel,
        int features,
        int lanes,
        Span<float> rows,
        int stride,
        int count
    )
    {
        Check(panel.Length, features * lanes, nameof(panel));
        if (count < 0 || count > lanes || stride < features)
            throw new ArgumentException(
                $"{count} rows of {features} floats every {stride} do not come from a panel."
            );
        Check(rows.Length, count == 0 ? 0 : (count - 1) * stride + features, nameof(rows));
        fixed (
            float* source = panel,
                target = rows
        )
            Transpose.Blocks(source, lanes, target, stride, features, count);
    }

    /// <summary>Rows <c>[lanes, features]</c> to a panel <c>[features, lanes]</c>.</summary>
    public static void FromRows(ReadOnlySpan<float> rows, Panel panel)
    {
        Check(rows.Length, panel.Values.Length, nameof(rows));
        fixed (
            float* source = rows,
                target = panel.Values
        )
            Transpose.Blocks(source, panel.Features, target, panel.Lanes, panel.Lanes, panel.Features);
    }

    private static void Multiply(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        int rows,
        int inner,
        int columns,
        Start start,
        float* bias
    ) => All.InUse.Multiply(a, aRow, aInner, b, bInner, c, cRow, rows, inner, columns, start, bias);

    private static void CheckLanes(Panel panel, int lanes)
    {
        if (panel.Lanes != lanes)
            throw new ArgumentException(
                $"A panel of {panel.Lanes} lanes was given where {lanes} are needed."
            );
    }

    private static void CheckLanes(Sequences first, Sequences second)
    {
        if (first.Columns != second.Columns)
            throw new ArgumentException(
                $"Sequences of {first.Tokens} and {second.Tokens} tokens do not fit."
            );
    }

    private static void Check(int length, int needed, string name)
    {
        if (length < needed)
            throw new ArgumentException($"{name} holds {length} floats where {needed} are needed.", name);
    }
}

/// <summary>The product behind all; all versions give the same bits.</summary>
internal abstract unsafe class MatrixKernels
{
    /// <summary>See <see cref="MatrixW512"/>.</summary>
    public abstract void Multiply(
        float* a,
        nint aRow,
        nint aInner,
        float* b,
        nint bInner,
        float* c,
        nint cRow,
        int rows,
        int inner,
        int columns,
        Start start,
        float* bias
    );
}
