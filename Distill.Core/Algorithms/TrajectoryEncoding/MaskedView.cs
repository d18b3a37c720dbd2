using Distill.Networks;

namespace Distill.Algorithms;

/// <summary>
/// Hides some of the tokens of windows, as BERT does (Devlin et al. 2019): of those masked, 80 % become 0, 10 % a vector of random
/// numbers, the same in the whole batch, and 10 % stay. Each kind, states, actions and rewards, has at least one in a window: if
/// chance masks none, its last.
/// </summary>
internal sealed class MaskedView(double probability, RandomStream choosing, RandomStream noise)
{
    private const double Zeroed = 0.8;
    private const double Replaced = 0.9;

    /// <summary>Masks one lane.</summary>
    /// <param name="window">What is masked is changed in it.</param>
    /// <param name="masked"><c>[3 n - 2, 16]</c>, kind by kind: receives 1 where a token is masked, else 0.</param>
    /// <param name="length">Steps of the lane's window.</param>
    /// <param name="sequence">Which of the batch.</param>
    /// <param name="view">0 or 1.</param>
    /// <param name="counts">Of masked states, actions and rewards; added to.</param>
    public void Mask(
        TrajectoryWindow window,
        Span<float> masked,
        int lane,
        int length,
        int sequence,
        int view,
        long update,
        Span<int> counts
    )
    {
        var token = 0;
        for (var kind = 0; kind < TrajectoryWindow.Kinds; kind++)
        {
            var tokens = window[kind];
            var there = kind == 0 ? length : length - 1;
            var any = false;
            (uint X0, uint X1, uint X2, uint X3) words = default;
            for (var place = 0; place < tokens.Tokens; place++, token++)
            {
                if (place % 4 == 0)
                    words = choosing.Bits(
                        (uint)sequence,
                        (uint)update,
                        (uint)(update >> 32),
                        (uint)((2 * kind + view) << 16 | place / 4)
                    );
                var share = words.X0 / (double)(1L << 32);
                words = (words.X1, words.X2, words.X3, words.X0);
                var hit = share < probability && place < there;
                var hidden = hit || (place == there - 1 && !any);
                masked[token * Sequences.Lanes + lane] = hidden ? 1 : 0;
                if (!hidden)
                    continue;
                any = true;
                counts[kind]++;
                // What is left of the random number says what becomes of it.
                Hide(
                    tokens,
                    place,
                    lane,
                    hit ? share / probability : (share - probability) / (1 - probability),
                    (uint)(2 * kind + view),
                    update
                );
            }
        }
    }

    private void Hide(Sequences tokens, int place, int lane, double share, uint which, long update)
    {
        if (share >= Replaced)
            return;
        for (var feature = 0; feature < tokens.Features; feature++)
            tokens[feature, place, lane] =
                share < Zeroed ? 0 : noise.Uniform((uint)feature, (uint)update, (uint)(update >> 32), which);
    }
}
