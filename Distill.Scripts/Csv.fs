/// Tables as comma-separated files.
module Distill.Csv

open System.Globalization
open System.IO
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

/// The fields of these names in every row.
let read (path: string) (names: string list) : string list list =
    let text = InputFile.ReadText(path, "table")

    try
        use csv = CsvReader.Create(new StringReader(text), CsvReaderOptions())

        [
            while csv.Read() do
                [
                    for name in names do
                        csv.GetString name
                ]
        ]
    with error ->
        raise (DistillException($"{path} is not the table it should be: {error.Message}", error))
