/// The replay of off-policy learning.
module Distill.Tests.ReplayTests

open System
open Distill
open Distill.Datasets
open Xunit
open Distill.Tests.DistillationTestbed

let private add (replay: Replay) first count =
    for i in first .. first + count - 1 do
        let row = replay.Next()
        row[0] <- float32 i
        row[1] <- float32 -i

let private read (replay: Replay) =
    [ for place in 0 .. replay.Count - 1 -> replay[place].ToArray() |> List.ofArray ]

let private row i = [ float32 i; float32 -i ]

let private make capacity = new Replay(columns 1 1, capacity)

[<Fact>]
let ``The newest rows are held, each in the place of the oldest`` () =
    use replay = make 5
    add replay 0 3
    Expect.equal (read replay) [ row 0; row 1; row 2 ] "before it is full"
    add replay 3 4
    Expect.equal (read replay) [ row 5; row 6; row 2; row 3; row 4 ] "when it is full"

[<Fact>]
let ``Memory comes in chunks, and rows keep their places`` () =
    // The last chunk is smaller than the others.
    use replay = make 150_000
    add replay 0 250_000
    Expect.equal replay.Count 150_000 "rows"

    for place in [ 0; 65_535; 65_536; 99_999; 100_000; 149_999 ] do
        let newest = if place < 100_000 then 150_000 + place else place
        Expect.equal (replay[place].ToArray() |> List.ofArray) (row newest) $"place {place}"

[<Fact>]
let ``What is saved is what is held, and goes on as before`` () =
    for count in [ 0; 1; 70_000; 150_000; 170_000 ] do
        use replay = make 150_000
        use other = make 150_000
        add replay 0 count
        let saved = Blocks.read replay.Visit
        let size = saved |> List.sumBy (fun (_, bytes) -> bytes.Length)
        Expect.equal size (8 + 8 * replay.Count) $"{count} rows: bytes"
        add other 0 3
        let empty = make 150_000
        Blocks.write saved empty.Visit
        add replay count 10
        add empty count 10
        Expect.equal (read empty) (read replay) $"{count} rows"
        empty.Dispose()
