namespace Distill

open System
open Distill.Compute

/// One decision of a space. A number u of [0, 1) makes it.
type internal Dimension =
    /// Any number of a range, at the share u of it (on a logarithmic one, of its logarithms).
    | Range
    /// One of so many values in order of size.
    | Steps of count: int
    /// One of so many values without an order.
    | Choices of count: int

/// What a sweep varies: one description that both lists all its points and draws one. Built by `space { ... }`.
type Space<'T> =
    internal
        {
            /// All points, in order; None for no such list, with the reason.
            Points: unit -> Result<'T list, string>

            /// One point, from a number of [0, 1) for each decision: uniform ones draw it at random.
            Draw: (Dimension -> float) -> 'T
        }

/// `space { let! a = ... and! b = ... return ... }`: every `and!` multiplies; a `let!` below another may depend on it.
type SpaceBuilder() =
    member _.Return(value: 'T) : Space<'T> =
        {
            Points = fun () -> Ok [ value ]
            Draw = fun _ -> value
        }

    member _.BindReturn(space: Space<'T>, f: 'T -> 'U) : Space<'U> =
        {
            Points = fun () -> space.Points() |> Result.map (List.map f)
            Draw = space.Draw >> f
        }

    member _.MergeSources(a: Space<'T>, b: Space<'U>) : Space<'T * 'U> =
        {
            Points =
                fun () ->
                    match a.Points(), b.Points() with
                    | Ok first, Ok second -> Ok(List.allPairs first second)
                    | Error reason, _
                    | _, Error reason -> Error reason
            Draw =
                fun decide ->
                    let first = a.Draw decide
                    first, b.Draw decide
        }

    member _.Bind(space: Space<'T>, f: 'T -> Space<'U>) : Space<'U> =
        {
            Points =
                fun () ->
                    space.Points()
                    |> Result.bind (fun points ->
                        (Ok [], points)
                        ||> List.fold (fun before point ->
                            before
                            |> Result.bind (fun before ->
                                (f point).Points() |> Result.map (fun inner -> List.rev inner @ before)))
                        |> Result.map List.rev)
            Draw = fun decide -> (f (space.Draw decide)).Draw decide
        }

    member _.ReturnFrom(space: Space<'T>) = space

/// How a space is searched.
[<RequireQualifiedAccess>]
type Search =
    /// Every point.
    | Grid
    /// This many points drawn independently. A larger number keeps the points of a smaller one.
    | Random of trials: int
    /// This many points of a Halton sequence (Halton 1960, rotated by random shifts), which fill a space of a few
    /// dimensions more evenly than independent ones.
    | Halton of trials: int
    /// This many points, each proposed from the results of those before by tree-structured Parzen estimators (Bergstra et
    /// al. 2011, with Optuna's defaults): the first ten at random, then where good ones are denser than bad ones.
    | Tpe of trials: int
    /// Few points are trained to the end: asynchronous successive halving.
    | Asha of Asha

/// Asynchronous successive halving (Li et al. 2020, "A system for massively parallel hyperparameter tuning", Algorithm 2): a
/// point is trained for a few iterations, waits at this rung with its checkpoint, and goes on to the next, `Eta` times as far,
/// when it is among the best 1/Eta there. The measure at a rung is the highest mean return of the evaluations up to it.
and Asha =
    {
        /// Where the points come from: any search but this one.
        Sampler: Search

        /// Factor between rungs, and the share of points that a rung leaves behind. Raise it to save more and to judge earlier.
        Eta: int

        /// Iterations of the first rung, at least those to the first evaluation. Raise it when early results mislead.
        Min: int

        /// Iterations of the last rung; 0 for the `iterations` of the jobs.
        Max: int
    }

module internal Dimension =
    /// Which of so many values the number makes.
    let index (count: int) (u: float) = min (count - 1) (int (u * float count))

[<AutoOpen>]
module Spaces =
    let space = SpaceBuilder()

    /// Whether the values are numbers, or texts of them, each above the one before.
    let private ascending (values: 'T array) =
        let number (value: 'T) =
            match box value with
            | :? int as value -> Some(float value)
            | :? float as value -> Some value
            | :? string as text -> Names.number (text.Replace("_", ""))
            | _ -> None

        let numbers = values |> Array.map number

        numbers |> Array.forall Option.isSome
        && numbers |> Array.pairwise |> Array.forall (fun (one, next) -> one < next)

    /// Each of the values. A search that learns from results takes numbers in ascending order for a scale, whose neighbours
    /// tell of each other.
    let choice (values: 'T list) : Space<'T> =
        if values.IsEmpty then
            fail "A choice needs at least one value."

        let values = List.toArray values

        let dimension =
            if ascending values then
                Steps values.Length
            else
                Choices values.Length

        {
            Points = fun () -> Ok(List.ofArray values)
            Draw = fun decide -> values[Dimension.index values.Length (decide dimension)]
        }

    let private continuous
        (name: string)
        (low: float)
        (high: float)
        (least: float)
        (at: float -> float)
        : Space<float> =
        if not (low > least && low < high && Double.IsFinite high) then
            let positive = if least = 0.0 then ", both above 0" else ""

            fail $"{name} {low} {high} cannot be: the first number must be below the second{positive}."

        {
            Points =
                fun () ->
                    Error
                        $"{name} {low} {high} has no grid: list the values with choice [ ... ], or draw them with Search.Random or Search.Halton."
            Draw = fun decide -> at (decide Range)
        }

    /// Uniform on [low, high).
    let uniform (low: float) (high: float) : Space<float> =
        continuous "uniform" low high -infinity (fun u -> low + (high - low) * u)

    /// Uniform in the logarithm on [low, high), both above 0: for learning rates and other scales.
    let logUniform (low: float) (high: float) : Space<float> =
        continuous "logUniform" low high 0.0 (fun u -> low * Math.Pow(high / low, u))

    /// Each whole number from low to high, both included.
    let wholeNumber (low: int) (high: int) : Space<int> = choice [ low..high ]

module internal Search =
    let private primes =
        let isPrime n =
            Seq.forall (fun d -> n % d <> 0) (seq { 2 .. int (sqrt (float n)) })

        Seq.initInfinite ((+) 2) |> Seq.filter isPrime |> Seq.cache

    /// The digits of the number in this base, mirrored at the point.
    let radicalInverse (radix: int) (number: int) =
        let rec go (number: int) (scale: float) =
            if number = 0 then
                0.0
            else
                let scale = scale / float radix
                float (number % radix) * scale + go (number / radix) scale

        go number 1.0

    /// Uniform on [0, 1) with 53 bits.
    let uniform (stream: RandomStream) (point: int) (attempt: int) (dimension: int) =
        let struct (a, b, _, _) =
            stream.Bits(uint32 point, uint32 dimension, uint32 attempt)

        float (((uint64 a <<< 32) ||| uint64 b) >>> 11) * Math.Pow(2.0, -53.0)

    /// Decisions by the numbers of a point: each call is the next dimension.
    let private decisions (number: int -> float) : Dimension -> float =
        let mutable dimension = -1

        fun _ ->
            dimension <- dimension + 1
            number dimension

    let private checkCount (count: int) =
        if count < 1 then
            fail $"A search of {count} trials cannot be: ask for at least 1."

    /// The point of these decisions.
    let at (space: Space<'T>) (numbers: float list) : 'T =
        space.Draw(decisions (fun dimension -> numbers[dimension]))

    /// The points that a search visits whatever their results. One that learns from them has its first ten points here.
    let rec points (seed: uint64) (search: Search) (space: Space<'T>) : 'T list =
        match search with
        | Search.Grid ->
            match space.Points() with
            | Ok points -> points
            | Error reason -> fail (reason)
        | Search.Random count ->
            checkCount count
            let stream = RandomStream(seed, "search.random")
            List.init count (fun point -> space.Draw(decisions (uniform stream point 0)))
        | Search.Halton count ->
            checkCount count
            let shifts = RandomStream(seed, "search.halton")

            let number (point: int) (dimension: int) =
                let shifted =
                    radicalInverse (Seq.item dimension primes) (point + 1) + uniform shifts 0 0 dimension

                shifted - floor shifted

            List.init count (fun point -> space.Draw(decisions (number point)))
        | Search.Tpe count ->
            checkCount count
            points seed (Search.Random(min count 10)) space
        | Search.Asha asha -> points seed asha.Sampler space
