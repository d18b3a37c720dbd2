/// Names and counts as people write them, and names as the code has them.
module Distill.Names

open System
open System.Globalization

/// max_buffer_size for MaxBufferSize: an underscore before every capital but the first.
let snake (pascal: string) =
    pascal
    |> Seq.mapi (fun i c ->
        if Char.IsUpper c then
            (if i = 0 then "" else "_") + string (Char.ToLowerInvariant c)
        else
            string c)
    |> String.concat ""

/// MaxBufferSize for max_buffer_size.
let pascal (snake: string) =
    snake.Split '_'
    |> Seq.map (fun word ->
        if word = "" then
            ""
        else
            string (Char.ToUpperInvariant word[0]) + word.Substring 1)
    |> String.concat ""

/// The last part of a dotted name.
let leaf (name: string) =
    name.Substring(name.LastIndexOf '.' + 1)

/// Whether a name, its last part or more of it, can stand for a full one.
let means (name: string) (full: string) =
    full = name || full.EndsWith("." + name)

/// What a name can stand for: what has exactly this name, or else all that it is a part of.
let matching (nameOf: 'T -> string) (name: string) (all: 'T list) : 'T list =
    match all |> List.filter (fun one -> nameOf one = name) with
    | [] -> all |> List.filter (nameOf >> means name)
    | exact -> exact

/// Name and value of `name=value`; None where it is none.
let assignment (text: string) : (string * string) option =
    match text.IndexOf '=' with
    | -1
    | 0 -> None
    | at -> Some(text.Substring(0, at).Trim(), text.Substring(at + 1).Trim())

/// "1 trial", "2 trials".
let counted (number: int) (what: string) =
    if number = 1 then $"1 {what}" else $"{number} {what}s"

/// Insertions, deletions, changes and swaps of neighbours that turn one text into the other.
let distance (a: string) (b: string) =
    let d = Array2D.init (a.Length + 1) (b.Length + 1) (fun i j -> max i j)

    for i in 1 .. a.Length do
        for j in 1 .. b.Length do
            let change = if a[i - 1] = b[j - 1] then 0 else 1

            d[i, j] <- min (d[i - 1, j - 1] + change) (1 + min d[i - 1, j] d[i, j - 1])

            if i > 1 && j > 1 && a[i - 1] = b[j - 2] && a[i - 2] = b[j - 1] then
                d[i, j] <- min d[i, j] (d[i - 2, j - 2] + 1)

    d[a.Length, b.Length]

/// The candidates most like the name, best first, none much worse than the best; empty when none is near.
let near (name: string) (candidates: string seq) =
    let ranked =
        candidates
        |> Seq.distinct
        |> Seq.map (fun candidate -> candidate, distance name candidate)
        |> Seq.filter (fun (candidate, d) -> d <= 1 + max name.Length candidate.Length / 3)
        |> Seq.sortBy snd
        |> Seq.truncate 3
        |> Seq.toList

    ranked |> List.filter (fun (_, d) -> d <= snd ranked.Head + 1) |> List.map fst

/// "did you mean a, b or c?", or all there are if none is near.
let hint (name: string) (candidates: string seq) =
    match near name candidates with
    | [] -> "there are: " + String.Join(", ", candidates) + "."
    | [ one ] -> $"did you mean {one}?"
    | several ->
        let first = String.Join(", ", List.take (several.Length - 1) several)
        $"did you mean {first} or {List.last several}?"

/// The number that a text is.
let number (text: string) : float option =
    match Double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture) with
    | true, value -> Some value
    | _ -> None

/// The whole number that a text is.
let wholeNumber (text: string) : int option =
    match Int32.TryParse text with
    | true, value -> Some value
    | _ -> None

/// A size as people read it.
let mebibytes (bytes: int64) = $"{float bytes / 1048576.0:F1} MiB"
