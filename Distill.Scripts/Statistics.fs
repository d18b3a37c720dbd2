namespace Distill

open System
open Distill.Compute
open MathNet.Numerics.Distributions

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

        /// Mean difference, with Student's interval.
        Mean: Interval

        /// Mean difference, with a bootstrap interval over seeds.
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

        $"{verdict}: mean difference {comparison.Mean} (Student's 95 %% interval over {n} seeds; bootstrap "
        + $"[{comparison.Bootstrap.Low:G4}, {comparison.Bootstrap.High:G4}]), {comparison.Wins} of {n} seeds better, "
        + $"sign test p = {comparison.SignP:G2}"

/// Statistics over seeds and variants.
module Statistics =
    let private repetitions = 5000

    let mean (values: float seq) = Seq.average values

    /// Standard deviation of a sample, divisor n - 1; NaN for fewer than two values.
    let deviation (values: float seq) =
        let values = Seq.toArray values
        let mean = Array.average values
        sqrt (Array.sumBy (fun value -> (value - mean) ** 2.0) values / float (values.Length - 1))

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

    /// Value below which a share of the sorted values lies; linear between neighbours, as numpy's default.
    let private quantileOfSorted (share: float) (sorted: float array) =
        let at = share * float (sorted.Length - 1)
        let below = int (floor at)
        let above = min (sorted.Length - 1) (below + 1)
        sorted[below] + (at - float below) * (sorted[above] - sorted[below])

    let quantile (share: float) (values: float seq) =
        values |> Seq.toArray |> Array.sort |> quantileOfSorted share

    /// Mean of the middle half: a quarter of the values, rounded down, is cut off at either end. Less moved by outliers than
    /// the mean, less wasteful than the median (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice", 4.3).
    let interquartileMean (values: float seq) =
        let sorted = values |> Seq.toArray |> Array.sort
        let cut = sorted.Length / 4
        sorted |> Array.skip cut |> Array.take (sorted.Length - 2 * cut) |> Array.average

    /// A statistic of all values with a percentile interval of the stratified bootstrap: each stratum (a task, or a variant)
    /// has its runs resampled with replacement on its own (Agarwal et al. 2021, 4.2). Seeded, so always the same.
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

        if strata |> List.forall (fun runs -> runs.Length < 2) then
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

    /// Compares two variants on the seeds that both have; None when there are none.
    let paired (a: string, resultsOfA: (uint64 * float) list) (b: string, resultsOfB: (uint64 * float) list) =
        let ofB = Map.ofList resultsOfB

        let differences =
            resultsOfA
            |> List.choose (fun (seed, value) -> ofB.TryFind seed |> Option.map (fun other -> value - other))

        if differences.IsEmpty then
            None
        else
            let count (sign: int) =
                differences |> List.filter (fun difference -> Math.Sign difference = sign) |> List.length

            Some
                {
                    A = a
                    B = b
                    Differences = differences
                    Mean = mean95 differences
                    Bootstrap = stratifiedBootstrap mean [ differences ]
                    Wins = count 1
                    Losses = count -1
                    SignP = signTest (count 1) (count -1)
                }
