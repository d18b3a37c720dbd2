/// Tables as text, as HTML and as CSV.
module Distill.Table

open System
open System.Globalization
open System.Net
open CsvHelper
open Distill.Storage

/// A number with all its digits, for files.
let number (value: float) =
    value.ToString("R", CultureInfo.InvariantCulture)

/// Columns as wide as they need to be: the first to the left, the others to the right.
let text (head: string list) (rows: string list list) =
    let widths =
        head
        |> List.mapi (fun column title -> rows |> List.fold (fun most row -> max most row[column].Length) title.Length)

    let line (cells: string list) =
        List.zip cells widths
        |> List.mapi (fun column (cell, width) -> if column = 0 then cell.PadRight width else cell.PadLeft width)
        |> String.concat "  "

    let rule = String('-', List.sum widths + 2 * (widths.Length - 1))
    String.Join(Environment.NewLine, line head :: rule :: List.map line rows)

let html (head: string list) (rows: string list list) =
    let row (tag: string) (cells: string list) =
        let cells = cells |> List.map (fun cell -> $"<{tag}>{WebUtility.HtmlEncode cell}</{tag}>")
        "<tr>" + String.Join("", cells) + "</tr>"

    "<table>" + row "th" head + String.Join("", List.map (row "td") rows) + "</table>"

/// Writes atomically.
let writeCsv (path: string) (head: string list) (rows: string list list) =
    AtomicFile.Write(
        path,
        fun stream ->
            use csv = CsvWriter.Create(stream, CsvWriterOptions(NewLine = "\n"), leaveOpen = true)

            for row in head :: rows do
                csv.WriteRecord(List.toArray row)
    )
