using Distill.Networks;

namespace Distill.Policies;

/// <summary>Functions in C99 of which an exported step is made; @ stands for the beginning of all names.</summary>
internal static class CFunctions
{
    public const string Row = """
        /* One row of W x + b. */
        static inline float @_row(const float *weight, const float *bias, int row, const float *x, int inputs)
        {
            float sum = bias[row];
            for (int i = 0; i < inputs; i++)
                sum += weight[row * inputs + i] * x[i];
            return sum;
        }


        """;

    public const string Dense = """
        static inline void @_dense(const float *weight, const float *bias, const float *x, int inputs, float *y, int size)
        {
            for (int i = 0; i < size; i++)
                y[i] = @_row(weight, bias, i, x, inputs);
        }


        """;

    public const string Sigmoid = """
        static inline float @_sigmoid(float x)
        {
            return 1.0f / (1.0f + expf(-x));
        }


        """;

    /// <summary>As <see cref="GruLayer"/> has it.</summary>
    public const string Gru = """
        /* Gated recurrent unit with the gates r, z and n; h is its memory and its output. */
        static inline void @_gru(const float *weight_ih, const float *weight_hh, const float *bias_ih, const float *bias_hh,
                                 const float *x, int inputs, float *h, int size, float *next)
        {
            for (int i = 0; i < size; i++) {
                const float r = @_sigmoid(@_row(weight_ih, bias_ih, i, x, inputs) + @_row(weight_hh, bias_hh, i, h, size));
                const float z = @_sigmoid(@_row(weight_ih, bias_ih, size + i, x, inputs)
                                          + @_row(weight_hh, bias_hh, size + i, h, size));
                const float n = tanhf(@_row(weight_ih, bias_ih, 2 * size + i, x, inputs)
                                      + r * @_row(weight_hh, bias_hh, 2 * size + i, h, size));
                next[i] = n + z * (h[i] - n);
            }
            for (int i = 0; i < size; i++)
                h[i] = next[i];
        }


        """;

    /// <summary>As <see cref="LstmLayer"/> has it.</summary>
    public const string Lstm = """
        static inline float @_gate(const float *weight_ih, const float *weight_hh, const float *bias_ih, const float *bias_hh,
                                   int row, const float *x, int inputs, const float *h, int size)
        {
            return @_row(weight_ih, bias_ih, row, x, inputs) + @_row(weight_hh, bias_hh, row, h, size);
        }

        /* Long short-term memory with the gates i, f, g and o; its memory is the cell c, then the output h. */
        static inline void @_lstm(const float *weight_ih, const float *weight_hh, const float *bias_ih, const float *bias_hh,
                                  const float *x, int inputs, float *memory, int size, float *next)
        {
            float *c = memory;
            float *h = memory + size;
            for (int j = 0; j < size; j++) {
                const float i = @_sigmoid(@_gate(weight_ih, weight_hh, bias_ih, bias_hh, j, x, inputs, h, size));
                const float f = @_sigmoid(@_gate(weight_ih, weight_hh, bias_ih, bias_hh, size + j, x, inputs, h, size));
                const float g = tanhf(@_gate(weight_ih, weight_hh, bias_ih, bias_hh, 2 * size + j, x, inputs, h, size));
                const float o = @_sigmoid(@_gate(weight_ih, weight_hh, bias_ih, bias_hh, 3 * size + j, x, inputs, h, size));
                c[j] = f * c[j] + i * g;
                next[j] = o * tanhf(c[j]);
            }
            for (int j = 0; j < size; j++)
                h[j] = next[j];
        }


        """;

    /// <summary>A function <c>@_tanh(y, size)</c> and its like; empty for the identity.</summary>
    public static string Of(Activation activation) =>
        activation switch
        {
            Activation.Relu => Loop("relu", "y[i] > 0.0f ? y[i] : 0.0f"),
            Activation.Elu => Loop("elu", "y[i] > 0.0f ? y[i] : expm1f(y[i])"),
            Activation.Tanh => Loop("tanh", "tanhf(y[i])"),
            Activation.Selu => Loop("selu", "y[i] > 0.0f ? 1.05070099f * y[i] : 1.75809934f * expm1f(y[i])"),
            _ => "",
        };

    private static string Loop(string name, string value) =>
        $$"""
            static inline void @_{{name}}(float *y, int size)
            {
                for (int i = 0; i < size; i++)
                    y[i] = {{value}};
            }


            """;
}
