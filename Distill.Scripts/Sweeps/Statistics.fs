namespace Distill

open System
open Distill.Compute
open MathNet.Numerics.Distributions
open MathNet.Numerics.Statistics

/// An estimate and its 95 % confidence interval. The bounds are NaN where the data cannot give any.
type Interval =
    {
        Estimate: float
        Low: float
        High: float
    }

    override interval.ToString() =
        if Double.IsNaN interval.Low then
            $"{interval.Estimate:G4}"
        else
            $"{interval.Estimate:G4} [{interval.Low:G4}, {interval.High:G4}]"

/// Two variants on the same seeds.
type PairedComparison =
    {
        A: string
        B: string

        /// A minus B, a difference for each seed that both have.
        Differences: float list

        /// Of how many variants A was picked as the best by these same values; 1 where it was not picked by them.
        PickedFrom: int

        /// Mean difference, with Student's interval.
        Mean: Interval

        /// Mean difference, with a bootstrap interval over seeds, which takes five of them.
        Bootstrap: Interval

        /// Seeds on which A is above B, and on which it is below.
        Wins: int
        Losses: int

        /// Two-sided exact sign test: how probable so uneven wins and losses are if neither is better.
        SignP: float
    }

    /// Positive where A beats B: Student's interval excludes 0. With few seeds bootstrap intervals are too narrow and the
    /// sign test cannot reach 5 % (it needs 6 seeds), so neither decides.
    member comparison.Sign =
        if comparison.Mean.Low > 0.0 then 1
        elif comparison.Mean.High < 0.0 then -1
        else 0

    override comparison.ToString() =
        let verdict =
            match comparison.Sign with
            | 1 -> $"{comparison.A} beats {comparison.B}"
            | -1 -> $"{comparison.B} beats {comparison.A}"
            | _ when comparison.Differences.Length < 2 ->
                $"{comparison.A} against {comparison.B}: undecided, for it takes two common seeds at least"
            | _ -> $"{comparison.A} against {comparison.B}: no difference that these seeds can show"

        let n = comparison.Differences.Length

        let bootstrap =
            if Double.IsNaN comparison.Bootstrap.Low then
                ""
            else
                $"; bootstrap [{comparison.Bootstrap.Low:G4}, {comparison.Bootstrap.High:G4}]"

        let picked =
            if comparison.PickedFrom > 2 then
                $". {comparison.A} is the best of {comparison.PickedFrom} variants by these same numbers, which flatters it: "
                + "seeds that the choice has not seen tell more"
            else
                ""

        $"{verdict}: mean difference {comparison.Mean} (Student's 95 %% interval over {n} seeds{bootstrap}), "
        + $"{comparison.Wins} of {n} seeds better, sign test p = {comparison.SignP:G2}{picked}"

/// Statistics over seeds and variants.
module Statistics =
    let private repetitions = 5000

    /// With fewer runs than these, middle halves and bootstrap intervals say little: three runs have but ten resamples, and an
    /// interval of these misses the truth far more often than one time in twenty.
    let internal fewest = 5

    let mean (values: float seq) = Seq.average values

    /// Standard deviation of a sample, divisor n - 1; NaN for fewer than two values.
    let deviation (values: float seq) =
        ArrayStatistics.StandardDeviation(Seq.toArray values)

    /// The value as a share of a reference; NaN where the reference is not above 0: of negative returns the better has the
    /// smaller share.
    let ratio (value: float) (reference: float) =
        if reference > 0.0 then value / reference else nan

    /// Mean with Student's 95 % interval, for values that are about normal.
    let mean95 (values: float list) : Interval =
        let mean = List.average values
        let n = values.Length

        let half =
            if n < 2 then
                nan
            else
                StudentT.InvCDF(0.0, 1.0, float (n - 1), 0.975) * deviation values / sqrt (float n)

        { Estimate = mean; Low = mean - half; High = mean + half }

    /// Mean difference of values that belong together pair by pair, such as the returns of two policies in the same episodes,
    /// with Student's 95 % interval.
    let difference (values: float32 array) (reference: float32 array) : Interval =
        Array.map2 (fun value other -> float value - float other) values reference |> List.ofArray |> mean95

    /// Value below which a share of the sorted values lies; linear between neighbours, as numpy's default.
    let private quantileOfSorted (share: float) (sorted: float array) =
        SortedArrayStatistics.QuantileCustom(sorted, share, QuantileDefinition.R7)

    let quantile (share: float) (values: float seq) =
        values |> Seq.toArray |> Array.sort |> quantileOfSorted share

    /// Mean of the middle half: a quarter of the values, rounded down, is cut off at either end. Less moved by outliers than
    /// the mean, less wasteful than the median (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice", 4.3).
    /// NaN for fewer than five values.
    let interquartileMean (values: float seq) =
        let sorted = values |> Seq.toArray |> Array.sort

        if sorted.Length < fewest then
            nan
        else
            let cut = sorted.Length / 4
            sorted |> Array.skip cut |> Array.take (sorted.Length - 2 * cut) |> Array.average

    /// A statistic of all values with a percentile interval of the stratified bootstrap: each stratum (a task, or a variant)
    /// has its runs resampled with replacement on its own (Agarwal et al. 2021, 4.2). Seeded, so always the same. No interval
    /// where a stratum has fewer than five runs.
    let stratifiedBootstrap (statistic: float seq -> float) (strata: float list list) : Interval =
        let strata = strata |> List.map List.toArray
        let stream = RandomStream(0UL, "bootstrap")

        let resample (repetition: int) =
            strata
            |> Seq.mapi (fun s runs ->
                Array.init runs.Length (fun i ->
                    let u = stream.Uniform(uint32 repetition, uint32 s, uint32 i)
                    runs[int (u * float32 runs.Length)]))
            |> Seq.concat

        let estimate = statistic (Seq.concat strata)

        if strata |> List.exists (fun runs -> runs.Length < fewest) then
            { Estimate = estimate; Low = nan; High = nan }
        else
            let sorted = Array.init repetitions (resample >> statistic) |> Array.sort

            { Estimate = estimate; Low = quantileOfSorted 0.025 sorted; High = quantileOfSorted 0.975 sorted }

    /// Two-sided exact sign test.
    let signTest (wins: int) (losses: int) =
        if wins + losses = 0 then
            1.0
        else
            min 1.0 (2.0 * Binomial.CDF(0.5, wins + losses, float (min wins losses)))

    /// Compares two variants by their differences, A minus B, one for each seed; None when there are none.
    let ofDifferences (a: string) (b: string) (differences: float list) =
        if differences.IsEmpty then
            None
        else
            let count (isSo: float -> bool) =
                differences |> List.filter isSo |> List.length

            let wins, losses =
                count (fun value -> value > 0.0), count (fun value -> value < 0.0)

            Some
                {
                    A = a
                    B = b
                    Differences = differences
                    PickedFrom = 1
                    Mean = mean95 differences
                    Bootstrap = stratifiedBootstrap mean [ differences ]
                    Wins = wins
                    Losses = losses
                    SignP = signTest wins losses
                }

    /// Compares two variants on the seeds that both have; None when there are none.
    let paired (a: string, resultsOfA: (uint64 * float) list) (b: string, resultsOfB: (uint64 * float) list) =
        let ofB = Map.ofList resultsOfB

        resultsOfA
        |> List.choose (fun (seed, value) -> ofB.TryFind seed |> Option.map (fun other -> value - other))
        |> ofDifferences a b
