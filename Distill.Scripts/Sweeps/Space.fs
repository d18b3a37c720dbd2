namespace Distill

open System
open Distill.Compute

/// What a sweep varies: one description that both lists all its points and draws one. Built by `space { ... }`.
type Space<'T> =
    internal
        {
            /// All points, in order; None for no such list, with the reason.
            Points: unit -> Result<'T list, string>

            /// One point, from numbers uniform on [0, 1).
            Draw: (unit -> float) -> 'T
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
                fun next ->
                    let first = a.Draw next
                    first, b.Draw next
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
            Draw = fun next -> (f (space.Draw next)).Draw next
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

[<AutoOpen>]
module Spaces =
    let space = SpaceBuilder()

    /// Each of the values.
    let choice (values: 'T list) : Space<'T> =
        if values.IsEmpty then
            fail "A choice needs at least one value."

        let values = List.toArray values

        {
            Points = fun () -> Ok(List.ofArray values)
            Draw = fun next -> values[min (values.Length - 1) (int (next () * float values.Length))]
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
            Draw = fun next -> at (next ())
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
    let private unit' (stream: RandomStream) (point: int) (dimension: int) =
        let struct (a, b, _, _) = stream.Bits(uint32 point, uint32 dimension)
        float (((uint64 a <<< 32) ||| uint64 b) >>> 11) * Math.Pow(2.0, -53.0)

    /// A source of numbers for point number `point`: each call is the next dimension.
    let private dimensions (number: int -> float) =
        let mutable dimension = -1

        fun () ->
            dimension <- dimension + 1
            number dimension

    let private checkCount (count: int) =
        if count < 1 then
            fail $"A search of {count} trials cannot be: ask for at least 1."

    /// The points that a search visits.
    let points (search: Search) (space: Space<'T>) : 'T list =
        match search with
        | Search.Grid ->
            match space.Points() with
            | Ok points -> points
            | Error reason -> fail (reason)
        | Search.Random count ->
            checkCount count
            let stream = RandomStream(0UL, "search.random")
            List.init count (fun point -> space.Draw(dimensions (unit' stream point)))
        | Search.Halton count ->
            checkCount count
            let shifts = RandomStream(0UL, "search.halton")

            let number (point: int) (dimension: int) =
                let shifted =
                    radicalInverse (Seq.item dimension primes) (point + 1) + unit' shifts 0 dimension

                shifted - floor shifted

            List.init count (fun point -> space.Draw(dimensions (number point)))
