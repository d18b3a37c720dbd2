namespace Distill.Tests

open System
open FsCheck
open FsCheck.FSharp
open Xunit

/// Assertions with messages that say which element was wrong and by how much.
module Expect =
    let equal (actual: 'T) (expected: 'T) (what: string) =
        if actual <> expected then
            failwith $"{what}: expected {expected}, got {actual}"

    let isTrue (condition: bool) (what: string) =
        if not condition then
            failwith what

    /// |actual - expected| <= tolerance; NaN never passes.
    let close (tolerance: float) (actual: float) (expected: float) (what: string) =
        if not (abs (actual - expected) <= tolerance) then
            failwith
                $"{what}: expected {expected:G9}, got {actual:G9} (off by {abs (actual - expected):G3}, tolerance {tolerance:G3})"

    /// Elementwise |actual - expected| <= tolerance * max(1, |expected|); reports the worst element.
    let closeAll (tolerance: float) (actual: seq<float>) (expected: seq<float>) (what: string) =
        let actual, expected = Seq.toArray actual, Seq.toArray expected

        if actual.Length <> expected.Length then
            failwith $"{what}: expected {expected.Length} elements, got {actual.Length}"

        let deviation i =
            let d = abs (actual[i] - expected[i]) / max 1.0 (abs expected[i])
            if Double.IsNaN d then infinity else d

        if actual.Length > 0 then
            let worst = Seq.maxBy deviation (seq { 0 .. actual.Length - 1 })

            if deviation worst > tolerance then
                failwith
                    $"{what}: element {worst}: expected {expected[worst]:G9}, got {actual[worst]:G9} (relative deviation {deviation worst:G3}, tolerance {tolerance:G3})"

    /// The action throws 'E; returns the exception so that its message can be looked at.
    let throws<'E when 'E :> exn> (action: unit -> unit) : 'E = Assert.Throws<'E>(Action action)

/// FsCheck properties inside xunit facts. DISTILL_REPLAY="seed,gamma" replays a failure.
module Property =
    let private config =
        match Environment.GetEnvironmentVariable "DISTILL_REPLAY" with
        | null
        | "" -> Config.QuickThrowOnFailure
        | text ->
            let parts = text.Split ','
            Config.QuickThrowOnFailure.WithReplay(UInt64.Parse parts[0], UInt64.Parse parts[1])

    let check (property: 'T) = Check.One(config, property)

    let checkMany (count: int) (property: 'T) =
        Check.One(config.WithMaxTest count, property)
