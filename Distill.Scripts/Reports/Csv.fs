/// Tables as comma-separated files.
module Distill.Csv

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
