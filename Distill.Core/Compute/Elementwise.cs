using System.Runtime.Intrinsics;

namespace Distill.Compute;

/// <summary>The nonlinearity after a dense layer.</summary>
public enum Activation
{
    /// <summary>y = x.</summary>
    Identity,

    /// <summary>y = max(x, 0).</summary>
    Relu,

    /// <summary>y = x for x > 0, else e^x - 1.</summary>
    Elu,

    /// <summary>y = tanh x.</summary>
    Tanh,

    /// <summary>
    /// y = 1.0507 x for x > 0, else 1.0507 * 1.6733 (e^x - 1): keeps mean 0 and variance 1 from layer to layer (Klambauer et
    /// al. 2017, arXiv 1706.02515).
    /// </summary>
    Selu,
}

/// <summary>
/// Elementwise kernels on spans whose lengths are multiples of 16, such as panels, and reductions of fixed order. Where a
/// panel <c>[n, 32]</c> is documented, a half panel <c>[n, 16]</c> does as well.
/// </summary>
public static unsafe class Elementwise
{
    private static readonly Kernels<ElementwiseKernels> All = new(typeof(ElementwiseW512));

    private static ElementwiseKernels Kernels => All.InUse;

    /// <summary>Replaces pre-activations by activations.</summary>
    public static void Activate(Activation activation, Span<float> values)
    {
        CheckGroups(values.Length);
        fixed (float* v = values)
            switch (activation)
            {
                case Activation.Relu:
                    Kernels.Relu(v, values.Length);
                    break;
                case Activation.Elu:
                    Kernels.Elu(v, values.Length);
                    break;
                case Activation.Tanh:
                    Kernels.Tanh(v, values.Length);
                    break;
                case Activation.Selu:
                    Kernels.Selu(v, values.Length);
                    break;
            }
    }

    /// <summary>dy becomes dy f'(x), with f' taken from the activation y = f(x).</summary>
    public static void ActivateBackward(Activation activation, ReadOnlySpan<float> y, Span<float> dy)
    {
        CheckGroups(dy.Length);
        CheckLength(y.Length, dy.Length);
        fixed (
            float* values = y,
                d = dy
        )
            switch (activation)
            {
                case Activation.Relu:
                    Kernels.ReluBackward(values, d, dy.Length);
                    break;
                case Activation.Elu:
                    Kernels.EluBackward(values, d, dy.Length);
                    break;
                case Activation.Tanh:
                    Kernels.TanhBackward(values, d, dy.Length);
                    break;
                case Activation.Selu:
                    Kernels.SeluBackward(values, d, dy.Length);
                    break;
            }
    }

    /// <summary>
    /// The gates of a GRU cell (PyTorch's convention). All spans are panels.
    /// r = s(gx_r + gh_r), z = s(gx_z + gh_z), n = tanh(gx_n + r gh_n), h' = (1 - z) n + z h.
    /// </summary>
    /// <param name="gates"><c>[3H, 32]</c>: W_ih x + b_ih on entry, (r, z, n) on return.</param>
    /// <param name="hiddenGates"><c>[3H, 32]</c>: W_hh h + b_hh.</param>
    /// <param name="hidden"><c>[H, 32]</c>: h.</param>
    /// <param name="next"><c>[H, 32]</c>: h'.</param>
    public static void GruForward(
        Span<float> gates,
        ReadOnlySpan<float> hiddenGates,
        ReadOnlySpan<float> hidden,
        Span<float> next
    )
    {
        CheckGroups(next.Length);
        CheckLength(gates.Length, 3 * next.Length);
        CheckLength(hiddenGates.Length, 3 * next.Length);
        CheckLength(hidden.Length, next.Length);
        fixed (
            float* g = gates,
                gh = hiddenGates,
                h = hidden,
                y = next
        )
            Kernels.GruForward(g, gh, h, y, next.Length);
    }

    /// <summary>
    /// Backward of <see cref="GruForward"/>. All spans are panels.
    /// </summary>
    /// <param name="gates"><c>[3H, 32]</c>: r, z, n.</param>
    /// <param name="hiddenCandidate"><c>[H, 32]</c>: the last third of the hidden gates, W_hn h + b_hn.</param>
    /// <param name="hidden"><c>[H, 32]</c>: h.</param>
    /// <param name="dNext"><c>[H, 32]</c>: gradient of h'.</param>
    /// <param name="dGates"><c>[3H, 32]</c>: gradient of W_ih x + b_ih.</param>
    /// <param name="dHiddenGates"><c>[3H, 32]</c>: gradient of W_hh h + b_hh.</param>
    /// <param name="dHidden"><c>[H, 32]</c>: the direct part z dh' of the gradient of h.</param>
    public static void GruBackward(
        ReadOnlySpan<float> gates,
        ReadOnlySpan<float> hiddenCandidate,
        ReadOnlySpan<float> hidden,
        ReadOnlySpan<float> dNext,
        Span<float> dGates,
        Span<float> dHiddenGates,
        Span<float> dHidden
    )
    {
        var length = dHidden.Length;
        CheckGroups(length);
        CheckLength(gates.Length, 3 * length);
        CheckLength(hiddenCandidate.Length, length);
        CheckLength(hidden.Length, length);
        CheckLength(dNext.Length, length);
        CheckLength(dGates.Length, 3 * length);
        CheckLength(dHiddenGates.Length, 3 * length);
        fixed (
            float* g = gates,
                hn = hiddenCandidate,
                h = hidden,
                d = dNext,
                dg = dGates,
                dgh = dHiddenGates,
                dh = dHidden
        )
            Kernels.GruBackward(g, hn, h, d, dg, dgh, dh, length);
    }

    /// <summary>
    /// The gates of an LSTM cell (PyTorch's convention). All spans are panels.
    /// i, f, o = s(gx + gh), g = tanh(gx_g + gh_g), c' = f c + i g, h' = o tanh c'.
    /// </summary>
    /// <param name="gates"><c>[4H, 32]</c>: W_ih x + b_ih on entry, (i, f, g, o) on return.</param>
    /// <param name="hiddenGates"><c>[4H, 32]</c>: W_hh h + b_hh.</param>
    /// <param name="cell"><c>[H, 32]</c>: c.</param>
    /// <param name="nextCell"><c>[H, 32]</c>: c'.</param>
    /// <param name="squashed"><c>[H, 32]</c>: tanh c'.</param>
    /// <param name="next"><c>[H, 32]</c>: h'.</param>
    public static void LstmForward(
        Span<float> gates,
        ReadOnlySpan<float> hiddenGates,
        ReadOnlySpan<float> cell,
        Span<float> nextCell,
        Span<float> squashed,
        Span<float> next
    )
    {
        CheckGroups(next.Length);
        CheckLength(gates.Length, 4 * next.Length);
        CheckLength(hiddenGates.Length, 4 * next.Length);
        CheckLength(cell.Length, next.Length);
        CheckLength(nextCell.Length, next.Length);
        CheckLength(squashed.Length, next.Length);
        fixed (
            float* g = gates,
                gh = hiddenGates,
                c = cell,
                nc = nextCell,
                s = squashed,
                y = next
        )
            Kernels.LstmForward(g, gh, c, nc, s, y, next.Length);
    }

    /// <summary>
    /// Backward of <see cref="LstmForward"/>. All spans are panels.
    /// </summary>
    /// <param name="gates"><c>[4H, 32]</c>: i, f, g, o.</param>
    /// <param name="cell"><c>[H, 32]</c>: c.</param>
    /// <param name="squashed"><c>[H, 32]</c>: tanh c'.</param>
    /// <param name="dNext"><c>[H, 32]</c>: gradient of h'.</param>
    /// <param name="dCell"><c>[H, 32]</c>: on entry the gradient of c' by the next step, on return that of c.</param>
    /// <param name="dGates"><c>[4H, 32]</c>: gradient of W_ih x + b_ih, which is that of W_hh h + b_hh.</param>
    public static void LstmBackward(
        ReadOnlySpan<float> gates,
        ReadOnlySpan<float> cell,
        ReadOnlySpan<float> squashed,
        ReadOnlySpan<float> dNext,
        Span<float> dCell,
        Span<float> dGates
    )
    {
        var length = dCell.Length;
        CheckGroups(length);
        CheckLength(gates.Length, 4 * length);
        CheckLength(cell.Length, length);
        CheckLength(squashed.Length, length);
        CheckLength(dNext.Length, length);
        CheckLength(dGates.Length, 4 * length);
        fixed (
            float* g = gates,
                c = cell,
                s = squashed,
                d = dNext,
                dc = dCell,
                dg = dGates
        )
            Kernels.LstmBackward(g, c, s, d, dc, dg, length);
    }

    /// <summary>values[f, lane] = (values[f, lane] - offset[f]) * scale[f] on a panel <c>[features, 32]</c>.</summary>
    public static void Normalize(Panel panel, ReadOnlySpan<float> offset, ReadOnlySpan<float> scale)
    {
        CheckLength(offset.Length, panel.Features);
        CheckLength(scale.Length, panel.Features);
        fixed (
            float* p = panel.Values,
                o = offset,
                s = scale
        )
            Kernels.Normalize(p, o, s, panel.Features, panel.Lanes);
    }

    /// <summary>
    /// Every feature of a panel <c>[features, 32]</c> times the lane's factor <c>[32]</c>; a factor 0 clears the lane, even of
    /// what is not a number.
    /// </summary>
    public static void ScaleLanes(Panel panel, ReadOnlySpan<float> factors)
    {
        CheckLength(factors.Length, panel.Lanes);
        fixed (
            float* p = panel.Values,
                f = factors
        )
            Kernels.ScaleLanes(p, f, panel.Features, panel.Lanes);
    }

    /// <summary>Copies the lanes whose mark is not 0 from one panel to another.</summary>
    /// <param name="lanes"><c>[32]</c>.</param>
    public static void CopyLanes(Panel source, Panel target, ReadOnlySpan<byte> lanes)
    {
        for (var lane = 0; lane < lanes.Length; lane++)
            if (lanes[lane] != 0)
                for (var i = lane; i < target.Values.Length; i += target.Lanes)
                    target.Values[i] = source.Values[i];
    }

    /// <summary>Whether no value is infinite or not a number; spans of any length.</summary>
    public static bool AllFinite(ReadOnlySpan<float> values)
    {
        // 0 x is 0 for what is finite, else not a number.
        var zeros = Vector256<float>.Zero;
        var i = 0;
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            zeros += Vector256.Create(values[i..]) * 0f;
        var finite = zeros == Vector256<float>.Zero;
        for (; i < values.Length; i++)
            finite &= float.IsFinite(values[i]);
        return finite;
    }

    /// <summary>target += values.</summary>
    public static void Add(ReadOnlySpan<float> values, Span<float> target)
    {
        CheckGroups(target.Length);
        CheckLength(values.Length, target.Length);
        fixed (
            float* v = values,
                t = target
        )
            Kernels.Add(v, t, target.Length);
    }

    /// <summary>target moves the share of its way to values: polyak averaging.</summary>
    public static void Approach(ReadOnlySpan<float> values, Span<float> target, float share)
    {
        CheckGroups(target.Length);
        CheckLength(values.Length, target.Length);
        for (var i = 0; i < target.Length; i += Vector256<float>.Count)
        {
            var now = Vector256.Create<float>(target[i..]);
            (now + share * (Vector256.Create(values[i..]) - now)).CopyTo(target[i..]);
        }
    }

    /// <summary>
    /// One Adam step on a slice of the parameters (Kingma and Ba; decoupled decay: Loshchilov and Hutter).
    /// p -= rate * decay * p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    /// p -= rate * (c1 m) / (sqrt(max(c2 v, floor)) + epsilon), with g already scaled and c1, c2 the bias corrections
    /// 1 / (1 - b^t).
    /// </summary>
    public static void Adam(
        Span<float> parameters,
        ReadOnlySpan<float> gradient,
        Span<float> first,
        Span<float> second,
        in AdamStep step
    )
    {
        CheckGroups(parameters.Length);
        CheckLength(gradient.Length, parameters.Length);
        CheckLength(first.Length, parameters.Length);
        CheckLength(second.Length, parameters.Length);
        fixed (
            float* p = parameters,
                g = gradient,
                m = first,
                v = second
        )
            Kernels.Adam(p, g, m, v, parameters.Length, step);
    }

    /// <summary>sums[f] += sum over the lanes of panel[f, :], always in the same order.</summary>
    public static void AddLaneSums(Panel panel, Span<float> sums)
    {
        CheckLength(sums.Length, panel.Features);
        var width = panel.Lanes;
        fixed (float* source = panel.Values)
            for (var feature = 0; feature < sums.Length; feature++)
            {
                var p = source + feature * width;
                var all = Vector256.Load(p) + Vector256.Load(p + 8);
                if (width == Panel.Width)
                    all += Vector256.Load(p + 16) + Vector256.Load(p + 24);
                var half = all.GetLower() + all.GetUpper();
                sums[feature] += (half[0] + half[2]) + (half[1] + half[3]);
            }
    }

    /// <summary>Sum of squares in double precision, always in the same order.</summary>
    public static double SumOfSquares(ReadOnlySpan<float> values)
    {
        CheckGroups(values.Length);
        var low = Vector256<double>.Zero;
        var high = Vector256<double>.Zero;
        fixed (float* v = values)
            for (var i = 0; i < values.Length; i += 8)
            {
                var (a, b) = Vector256.Widen(Vector256.Load(v + i));
                low += a * a;
                high += b * b;
            }
        var sum = low + high;
        return (sum[0] + sum[2]) + (sum[1] + sum[3]);
    }

    private static void CheckGroups(int length)
    {
        if (length % Matrix.RowPadding != 0)
            throw new ArgumentException(
                $"A length of {length} floats is not a multiple of {Matrix.RowPadding}."
            );
    }

    private static void CheckLength(int length, int expected)
    {
        if (length != expected)
            throw new ArgumentException($"A span of {length} floats was given where {expected} are needed.");
    }
}

/// <summary>
/// The scalars of one Adam step; see <see cref="Elementwise.Adam"/>. 1 - beta is given beside beta because the
/// subtraction of the rounded beta would be wrong by 5e-5 for 0.999, which the bias correction would not undo.
/// </summary>
public readonly record struct AdamStep(
    float Rate,
    float Beta1,
    float Beta2,
    float OneMinusBeta1,
    float OneMinusBeta2,
    float Epsilon,
    float Floor,
    float Correction1,
    float Correction2,
    float GradientScale,
    float CoupledDecay,
    float DecoupledDecay
);

/// <summary>The kernels that exist once per vector width; lengths are multiples of 16 floats.</summary>
internal abstract unsafe class ElementwiseKernels
{
    // Klambauer et al. 2017, equation 14.
    protected const float SeluScale = 1.0507009873554805f;
    protected const float SeluNegative = (float)(1.0507009873554805 * 1.6732632423543772);

    public abstract void Relu(float* values, int length);
    public abstract void Elu(float* values, int length);
    public abstract void Tanh(float* values, int length);
    public abstract void Selu(float* values, int length);
    public abstract void ReluBackward(float* y, float* dy, int length);
    public abstract void EluBackward(float* y, float* dy, int length);
    public abstract void TanhBackward(float* y, float* dy, int length);
    public abstract void SeluBackward(float* y, float* dy, int length);
    public abstract void GruForward(float* gates, float* hiddenGates, float* hidden, float* next, int length);
    public abstract void GruBackward(
        float* gates,
        float* hiddenCandidate,
        float* hidden,
        float* dNext,
        float* dGates,
        float* dHiddenGates,
        float* dHidden,
        int length
    );
    public abstract void LstmForward(
        float* gates,
        float* hiddenGates,
        float* cell,
        float* nextCell,
        float* squashed,
        float* next,
        int length
    );
    public abstract void LstmBackward(
        float* gates,
        float* cell,
        float* squashed,
        float* dNext,
        float* dCell,
        float* dGates,
        int length
    );
    public abstract void Normalize(float* panel, float* offset, float* scale, int features, int width);
    public abstract void ScaleLanes(float* panel, float* factors, int features, int width);
    public abstract void Add(float* values, float* target, int length);
    public abstract void Adam(float* p, float* g, float* m, float* v, int length, in AdamStep step);
}
