/// Tables as comma-separated files.
module Distill.Csv

open System
open System.Globalization
open CsvHelper
open Distill.Storage

/// A number with all its digits.
let number (value: float) =
    value.ToString("R", CultureInfo.InvariantCulture)

/// Writes atomically.
let write (path: string) (head: string list) (rows: string list list) =
    AtomicFile.Write(
        path,
        fun stream ->
            use csv =
                CsvWriter.Create(stream, CsvWriterOptions(NewLine = "\n"), leaveOpen = true)

            for row in head :: rows do
                csv.WriteRecord(List.toArray row)
    )

/// The headings of a table, and its rows by them; None where a row has another number of fields than there are headings.
let read (text: string) : (string list * Map<string, string> list) option =
    use csv = CsvReader.FromText(text, CsvReaderOptions())

    try
        csv.ReadHeader()
        let head = List.ofSeq csv.Headers

        Some(
            head,
            [
                while csv.Read() do
                    Map(List.zip head (List.init csv.FieldCount csv.GetString))
            ]
        )
    with
    | :? CsvFormatException
    | :? ArgumentException -> None
