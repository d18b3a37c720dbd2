using System.Runtime.Intrinsics;

namespace Distill.Compute;

internal sealed unsafe class ElementwiseW512 : ElementwiseKernels
{
    public override void Relu(float* values, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            // A comparison instead of a maximum: NaN stays NaN, and -0 becomes 0 on every machine.
            var x = Vector512.Load(values + i);
            Vector512.AndNot(x, Vector512.LessThanOrEqual(x, Vector512<float>.Zero)).Store(values + i);
        }
    }

    public override void Elu(float* values, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var x = Vector512.Load(values + i);
            var negative = MathW512.Exp(x) - Vector512<float>.One;
            Vector512
                .ConditionalSelect(Vector512.GreaterThan(x, Vector512<float>.Zero), x, negative)
                .Store(values + i);
        }
    }

    public override void Tanh(float* values, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
            MathW512.Tanh(Vector512.Load(values + i)).Store(values + i);
    }

    public override void Selu(float* values, int length)
    {
        var (positive, negative) = (Vector512.Create(SeluScale), Vector512.Create(SeluNegative));
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var x = Vector512.Load(values + i);
            Vector512
                .ConditionalSelect(
                    Vector512.GreaterThan(x, Vector512<float>.Zero),
                    positive * x,
                    negative * (MathW512.Exp(x) - Vector512<float>.One)
                )
                .Store(values + i);
        }
    }

    public override void ReluBackward(float* y, float* dy, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var positive = Vector512.GreaterThan(Vector512.Load(y + i), Vector512<float>.Zero);
            (Vector512.Load(dy + i) & positive).Store(dy + i);
        }
    }

    public override void EluBackward(float* y, float* dy, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            // For x <= 0: f'(x) = e^x = y + 1.
            var slope =
                Vector512.MinNative(Vector512<float>.Zero, Vector512.Load(y + i)) + Vector512<float>.One;
            (Vector512.Load(dy + i) * slope).Store(dy + i);
        }
    }

    public override void TanhBackward(float* y, float* dy, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var value = Vector512.Load(y + i);
            (Vector512.Load(dy + i) * (Vector512<float>.One - value * value)).Store(dy + i);
        }
    }

    public override void SeluBackward(float* y, float* dy, int length)
    {
        var (positive, negative) = (Vector512.Create(SeluScale), Vector512.Create(SeluNegative));
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            // For x <= 0: f'(x) = a e^x = y + a.
            var value = Vector512.Load(y + i);
            var slope = Vector512.ConditionalSelect(
                Vector512.GreaterThan(value, Vector512<float>.Zero),
                positive,
                value + negative
            );
            (Vector512.Load(dy + i) * slope).Store(dy + i);
        }
    }

    public override void GruForward(float* gates, float* hiddenGates, float* hidden, float* next, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var r = MathW512.Sigmoid(Vector512.Load(gates + i) + Vector512.Load(hiddenGates + i));
            var z = MathW512.Sigmoid(
                Vector512.Load(gates + length + i) + Vector512.Load(hiddenGates + length + i)
            );
            var n = MathW512.Tanh(
                Vector512.FusedMultiplyAdd(
                    r,
                    Vector512.Load(hiddenGates + 2 * length + i),
                    Vector512.Load(gates + 2 * length + i)
                )
            );
            r.Store(gates + i);
            z.Store(gates + length + i);
            n.Store(gates + 2 * length + i);
            Vector512.FusedMultiplyAdd(z, Vector512.Load(hidden + i) - n, n).Store(next + i);
        }
    }

    public override void GruBackward(
        float* gates,
        float* hiddenCandidate,
        float* hidden,
        float* dNext,
        float* dGates,
        float* dHiddenGates,
        float* dHidden,
        int length
    )
    {
        var one = Vector512<float>.One;
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var r = Vector512.Load(gates + i);
            var z = Vector512.Load(gates + length + i);
            var n = Vector512.Load(gates + 2 * length + i);
            var d = Vector512.Load(dNext + i);
            var dn = d * (one - z) * (one - n * n);
            var dz = d * (Vector512.Load(hidden + i) - n) * (z * (one - z));
            var dr = dn * Vector512.Load(hiddenCandidate + i) * (r * (one - r));
            dr.Store(dGates + i);
            dz.Store(dGates + length + i);
            dn.Store(dGates + 2 * length + i);
            dr.Store(dHiddenGates + i);
            dz.Store(dHiddenGates + length + i);
            (dn * r).Store(dHiddenGates + 2 * length + i);
            (d * z).Store(dHidden + i);
        }
    }

    public override void LstmForward(
        float* gates,
        float* hiddenGates,
        float* cell,
        float* nextCell,
        float* squashed,
        float* next,
        int length
    )
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var input = MathW512.Sigmoid(Vector512.Load(gates + i) + Vector512.Load(hiddenGates + i));
            var forget = MathW512.Sigmoid(
                Vector512.Load(gates + length + i) + Vector512.Load(hiddenGates + length + i)
            );
            var candidate = MathW512.Tanh(
                Vector512.Load(gates + 2 * length + i) + Vector512.Load(hiddenGates + 2 * length + i)
            );
            var output = MathW512.Sigmoid(
                Vector512.Load(gates + 3 * length + i) + Vector512.Load(hiddenGates + 3 * length + i)
            );
            var c = Vector512.FusedMultiplyAdd(forget, Vector512.Load(cell + i), input * candidate);
            var s = MathW512.Tanh(c);
            input.Store(gates + i);
            forget.Store(gates + length + i);
            candidate.Store(gates + 2 * length + i);
            output.Store(gates + 3 * length + i);
            c.Store(nextCell + i);
            s.Store(squashed + i);
            (output * s).Store(next + i);
        }
    }

    public override void LstmBackward(
        float* gates,
        float* cell,
        float* squashed,
        float* dNext,
        float* dCell,
        float* dGates,
        int length
    )
    {
        var one = Vector512<float>.One;
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var input = Vector512.Load(gates + i);
            var forget = Vector512.Load(gates + length + i);
            var candidate = Vector512.Load(gates + 2 * length + i);
            var output = Vector512.Load(gates + 3 * length + i);
            var s = Vector512.Load(squashed + i);
            var d = Vector512.Load(dNext + i);
            var dc = Vector512.FusedMultiplyAdd(d * output, one - s * s, Vector512.Load(dCell + i));
            (dc * candidate * (input * (one - input))).Store(dGates + i);
            (dc * Vector512.Load(cell + i) * (forget * (one - forget))).Store(dGates + length + i);
            (dc * input * (one - candidate * candidate)).Store(dGates + 2 * length + i);
            (d * s * (output * (one - output))).Store(dGates + 3 * length + i);
            (dc * forget).Store(dCell + i);
        }
    }

    public override void Normalize(float* panel, float* offset, float* scale, int features, int width)
    {
        for (var feature = 0; feature < features; feature++, panel += width)
        {
            var shift = Vector512.Create(offset[feature]);
            var factor = Vector512.Create(scale[feature]);
            for (var lane = 0; lane < width; lane += Vector512<float>.Count)
                ((Vector512.Load(panel + lane) - shift) * factor).Store(panel + lane);
        }
    }

    public override void ScaleLanes(float* panel, float* factors, int features, int width)
    {
        for (var lane = 0; lane < width; lane += Vector512<float>.Count)
        {
            var factor = Vector512.Load(factors + lane);
            var cleared = Vector512.Equals(factor, Vector512<float>.Zero);
            for (var p = panel + lane; p < panel + features * width; p += width)
                Vector512.AndNot(Vector512.Load(p) * factor, cleared).Store(p);
        }
    }

    public override void Add(float* values, float* target, int length)
    {
        for (var i = 0; i < length; i += Vector512<float>.Count)
            (Vector512.Load(target + i) + Vector512.Load(values + i)).Store(target + i);
    }

    public override void Adam(float* p, float* g, float* m, float* v, int length, in AdamStep step)
    {
        var rate = Vector512.Create(-step.Rate);
        var keep1 = Vector512.Create(step.Beta1);
        var keep2 = Vector512.Create(step.Beta2);
        var take1 = Vector512.Create(step.OneMinusBeta1);
        var take2 = Vector512.Create(step.OneMinusBeta2);
        var epsilon = Vector512.Create(step.Epsilon);
        var floor = Vector512.Create(step.Floor);
        var correction1 = Vector512.Create(step.Correction1);
        var correction2 = Vector512.Create(step.Correction2);
        var scale = Vector512.Create(step.GradientScale);
        var coupled = Vector512.Create(step.CoupledDecay);
        var shrink = Vector512.Create(1 - step.Rate * step.DecoupledDecay);
        for (var i = 0; i < length; i += Vector512<float>.Count)
        {
            var parameter = Vector512.Load(p + i);
            var gradient = Vector512.FusedMultiplyAdd(coupled, parameter, Vector512.Load(g + i) * scale);
            var first = Vector512.FusedMultiplyAdd(keep1, Vector512.Load(m + i), take1 * gradient);
            var second = Vector512.FusedMultiplyAdd(
                keep2,
                Vector512.Load(v + i),
                take2 * (gradient * gradient)
            );
            var spread = Vector512.Sqrt(Vector512.MaxNative(second * correction2, floor)) + epsilon;
            first.Store(m + i);
            second.Store(v + i);
            Vector512.FusedMultiplyAdd(rate, first * correction1 / spread, parameter * shrink).Store(p + i);
        }
    }
}
