/// Spaces of a sweep: what they list, and what they draw.
module Distill.Tests.SweepSpaceTests

open System
open Distill
open Xunit

type private Point = { Rows: int; Rate: float }

[<Fact>]
let ``a grid is the product, the last varies fastest`` () =
    let points =
        space {
            let! rows = choice [ 1; 2 ]
            and! rate = choice [ 0.1; 0.2; 0.3 ]
            return { Rows = rows; Rate = rate }
        }
        |> Search.points 0UL Search.Grid

    Assert.Equal<Point list>(
        [
            for rows in [ 1; 2 ] do
                for rate in [ 0.1; 0.2; 0.3 ] do
                    { Rows = rows; Rate = rate }
        ],
        points
    )

[<Fact>]
let ``a value may depend on an earlier one`` () =
    let points =
        space {
            let! layers = wholeNumber 1 3
            let! layer = wholeNumber 1 layers
            return layers, layer
        }
        |> Search.points 0UL Search.Grid

    Assert.Equal<(int * int) list>([ 1, 1; 2, 1; 2, 2; 3, 1; 3, 2; 3, 3 ], points)

[<Fact>]
let ``a continuous range has no grid, and says what has`` () =
    let rates =
        space {
            let! rows = choice [ 1; 2 ]
            and! rate = logUniform 1e-4 1e-2
            return rows, rate
        }

    let error =
        Expect.throws<DistillException>(fun () -> Search.points 0UL Search.Grid rates |> ignore)

    Assert.StartsWith("logUniform 0.0001 0.01 has no grid", error.Message)
    Assert.Contains("choice", error.Message)

let private mixed =
    space {
        let! rows = choice [ 10; 20; 30 ]
        and! rate = logUniform 1e-4 1e-2
        and! share = uniform -1.0 3.0
        return rows, rate, share
    }

[<Fact>]
let ``draws stay within their ranges, and logUniform is uniform in the logarithm`` () =
    let points = Search.points 0UL (Search.Random 3000) mixed

    for rows, rate, share in points do
        Assert.Contains(rows, [ 10; 20; 30 ])
        Assert.InRange(rate, 1e-4, 1e-2)
        Assert.InRange(share, -1.0, 3.0)

    let share (predicate: int * float * float -> bool) =
        float (points |> List.filter predicate |> List.length) / 3000.0

    // Standard error 0.009.
    Expect.close 0.04 (share (fun (rows, _, _) -> rows = 20)) (1.0 / 3.0) "a third of the rows"

    Expect.close
        0.04
        (share (fun (_, rate, _) -> rate < 1e-3))
        0.5
        "half of the rates below the middle decade"

    Expect.close 0.04 (share (fun (_, _, share) -> share < 0.0)) 0.25 "a quarter below 0"

[<Fact>]
let ``a longer search begins with the shorter one`` () =
    for short, long in [ Search.Random 5, Search.Random 9; Search.Halton 5, Search.Halton 9 ] do
        let longer = Search.points 0UL long mixed
        Assert.Equal<(int * float * float) list>(List.take 5 longer, Search.points 0UL short mixed)
        Assert.Equal(9, longer |> List.distinct |> List.length)

[<Fact>]
let ``radical inverses are the digits mirrored at the point`` () =
    let inverses (radix: int) =
        List.init 5 (fun i -> Search.radicalInverse radix (i + 1))

    Expect.closeAll 1e-15 (inverses 2) [ 1.0 / 2.0; 1.0 / 4.0; 3.0 / 4.0; 1.0 / 8.0; 5.0 / 8.0 ] "base 2"

    Expect.closeAll 1e-15 (inverses 3) [ 1.0 / 3.0; 2.0 / 3.0; 1.0 / 9.0; 4.0 / 9.0; 7.0 / 9.0 ] "base 3"

[<Fact>]
let ``a Halton search fills every cell of a 4 by 4 board`` () =
    let cells =
        space {
            let! a = uniform 0.0 4.0
            and! b = uniform 0.0 4.0
            return int a, int b
        }
        |> Search.points 0UL (Search.Halton 48)
        |> List.countBy id

    Assert.Equal(16, cells.Length)

    for _, count in cells do
        Assert.InRange(count, 1, 6)

[<Fact>]
let ``ranges and searches that cannot be are refused`` () =
    let refused (part: string) (make: unit -> obj) =
        let error = Expect.throws<DistillException>(fun () -> make () |> ignore)
        Assert.Contains(part, error.Message)

    refused "both above 0" (fun () -> logUniform 0.0 1.0)
    refused "below the second" (fun () -> uniform 2.0 1.0)
    refused "at least one value" (fun () -> choice ([]: int list))
    refused "at least 1" (fun () -> Search.points 0UL (Search.Random 0) mixed)
