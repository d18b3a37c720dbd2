namespace Distill

open System
open MathNet.Numerics.Distributions

/// Tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", section 4), with the
/// details of Optuna's TPESampler at its defaults. Each decision is modelled by itself: one density l of the good points, one
/// density g of the others, and of 24 draws from l the one with the highest l / g is proposed. Numbers are shares u of [0, 1),
/// so that logarithmic ranges are like all others.
module internal Tpe =
    /// The decisions of a point in their order.
    type Point = (Dimension * float) list

    /// A point with its result: the rung that it has reached, and its score there; NaN for one that failed.
    type Observed = { Point: Point; Rung: int; Score: float }

    /// Points that are drawn at random before any is proposed.
    let startup = 10

    /// Draws from l of which the most promising is proposed.
    let candidates = 24

    /// How many of n points are good.
    let good (n: int) = min 25 (int (ceil (0.1 * float n)))

    /// The weights of n observations, oldest first: the newest 25 count fully.
    let weights (n: int) : float array =
        let fading = n - 25

        Array.init n (fun i ->
            if i >= fading || fading <= 0 then
                1.0
            else
                let oldest = 1.0 / float n
                oldest + (1.0 - oldest) * float i / float (max 1 (fading - 1)))

    /// A normal distribution within [0, 1].
    type Kernel = { Weight: float; Mean: float; Deviation: float }

    /// A density over one dimension: a mixture of kernels, or a probability for each choice.
    type Estimate =
        | Kernels of Kernel array
        | Probabilities of float array

    /// Each divided by their sum.
    let private normalized (values: float array) =
        let sum = Array.sum values
        values |> Array.map (fun value -> value / sum)

    /// The weights of the observations and, last, that of the prior, with sum 1.
    let private withPrior (observations: int) =
        normalized (Array.append (weights observations) [| 1.0 |])

    /// A kernel at each observation, as wide as the larger distance to its neighbours, the prior's mean among them, and one for
    /// the prior: mean 1/2, deviation 1. The outermost count their inner neighbour only.
    let private kernels (observations: float array) : Kernel array =
        let n = observations.Length
        let means = Array.append observations [| 0.5 |]
        let order = Array.init (n + 1) id |> Array.sortBy (fun i -> means[i], i)
        let sorted = order |> Array.map (fun i -> means[i])
        let least = 1.0 / min 100.0 (float (n + 2))

        let distance (place: int) =
            let left = if place = 0 then 0.0 else sorted[place] - sorted[place - 1]
            let right = if place = n then 0.0 else sorted[place + 1] - sorted[place]
            Math.Clamp(max left right, least, 1.0)

        let deviations = Array.create (n + 1) 1.0

        for place in 0..n do
            if order[place] < n then
                deviations[order[place]] <- distance place

        Array.map3
            (fun weight mean deviation -> { Weight = weight; Mean = mean; Deviation = deviation })
            (withPrior n)
            means
            deviations

    /// For each observation its choice with 1, for the prior none, and for all of them a pseudo-count of 1 / (n + 1).
    let private probabilities (count: int) (observations: float array) : float array =
        let n = observations.Length

        if n = 0 then
            Array.create count (1.0 / float count)
        else
            let pseudo = 1.0 / float (n + 1)
            let total = 1.0 + float count * pseudo
            let weights = withPrior n
            let found = Array.create count (weights[n] / float count)

            for i in 0 .. n - 1 do
                let chosen = Dimension.index count observations[i]

                for choice in 0 .. count - 1 do
                    let counted = if choice = chosen then pseudo + 1.0 else pseudo
                    found[choice] <- found[choice] + weights[i] * counted / total

            found

    /// The middle of the values' part of [0, 1) that the number lies in.
    let private middle (count: int) (u: float) =
        (float (Dimension.index count u) + 0.5) / float count

    /// The decisions by what they decide: numbers that make the same value are the same.
    let values (point: Point) : Point =
        [
            for dimension, u in point do
                match dimension with
                | Range -> dimension, u
                | Steps count
                | Choices count -> dimension, middle count u
        ]

    let estimate (dimension: Dimension) (observations: float array) : Estimate =
        match dimension with
        | Range -> Kernels(kernels observations)
        | Steps count -> Kernels(observations |> Array.map (middle count) |> kernels)
        | Choices count -> Probabilities(probabilities count observations)

    /// The first place at which the running sum exceeds the number.
    let private pick (shares: float array) (number: float) =
        let sums = shares |> Array.scan (+) 0.0 |> Array.tail

        match sums |> Array.tryFindIndex (fun sum -> number < sum) with
        | Some place -> place
        | None -> shares.Length - 1

    let private below (kernel: Kernel) (u: float) =
        Normal.CDF(kernel.Mean, kernel.Deviation, u)

    /// A draw, by two uniform numbers.
    let private sample (uniform: unit -> float) (dimension: Dimension) (estimate: Estimate) : float =
        let first, second = uniform (), uniform ()

        match dimension, estimate with
        | Choices count, Probabilities probabilities -> (float (pick probabilities first) + 0.5) / float count
        | _, Kernels kernels ->
            let kernel = kernels[pick (kernels |> Array.map _.Weight) first]
            let low, high = below kernel 0.0, below kernel 1.0

            let u = Normal.InvCDF(kernel.Mean, kernel.Deviation, low + second * (high - low))

            let u = Math.Clamp(u, 0.0, Math.BitDecrement 1.0)

            match dimension with
            | Steps count -> middle count u
            | _ -> u
        | _ -> invalidOp "An estimate is of its dimension."

    /// The density at a number; of steps and choices, the probability.
    let density (dimension: Dimension) (estimate: Estimate) (u: float) : float =
        let mixture (ofKernel: Kernel -> float) (kernels: Kernel array) =
            kernels
            |> Array.sumBy (fun kernel ->
                kernel.Weight * ofKernel kernel / (below kernel 1.0 - below kernel 0.0))

        match dimension, estimate with
        | Choices count, Probabilities probabilities -> probabilities[Dimension.index count u]
        | Steps count, Kernels kernels ->
            let step = float (Dimension.index count u)

            kernels
            |> mixture (fun kernel ->
                below kernel ((step + 1.0) / float count) - below kernel (step / float count))
        | _, Kernels kernels ->
            kernels |> mixture (fun kernel -> Normal.PDF(kernel.Mean, kernel.Deviation, u))
        | _ -> invalidOp "An estimate is of its dimension."

    /// The number proposed for a dimension, from the numbers of good points and of the others, each in the order in which they
    /// were tried.
    let propose
        (uniform: unit -> float)
        (candidates: int)
        (dimension: Dimension)
        (good: float array)
        (others: float array)
        : float =
        let l, g = estimate dimension good, estimate dimension others

        List.init candidates (fun _ -> sample uniform dimension l)
        |> List.maxBy (fun u -> density dimension l u / density dimension g u)

    /// The good points and the others, each in the order in which they were tried. A point ranks before those that have not
    /// come as far, then by its score.
    let split (observed: Observed list) : Point list * Point list =
        let rank (_, one: Observed) =
            if Double.IsNaN one.Score then
                1, 0, 0.0
            else
                0, -one.Rung, -one.Score

        let chosen =
            observed
            |> List.indexed
            |> List.sortBy rank
            |> List.truncate (good observed.Length)
            |> List.map fst
            |> set

        let good, others =
            observed |> List.indexed |> List.partition (fst >> chosen.Contains)

        let points = List.map (fun (_, one: Observed) -> one.Point)
        points good, points others

    /// Decides for a new point: at random as long as few points have results, or where there is no candidate.
    let decide (uniform: unit -> float) (candidates: int) (observed: Observed list) : Dimension -> float =
        let good, others = split observed
        let mutable place = -1

        /// What points decided here; a point whose earlier decisions led elsewhere has nothing to say.
        let here (dimension: Dimension) (points: Point list) =
            [|
                for point in points do
                    match List.tryItem place point with
                    | Some(same, u) when same = dimension -> u
                    | _ -> ()
            |]

        fun dimension ->
            place <- place + 1

            if observed.Length < startup || candidates = 0 then
                uniform ()
            else
                propose uniform candidates dimension (here dimension good) (here dimension others)
