namespace Distill

open Distill.Evaluation

/// Closed-loop results of policies side by side, on the same episodes.
type Comparison(rows: (string * EvaluationResult) list) =
    let table =
        Table(
            [ "policy"; "mean return"; "std"; "mean length"; "terminated %"; "episodes" ],
            [
                for label, result in rows do
                    [
                        box label
                        result.MeanReturn
                        result.StdReturn
                        result.MeanLength
                        100.0 * result.ShareTerminated
                        result.Episodes
                    ]
            ]
        )

    /// Label and result, in the order of the table.
    member _.Rows = rows

    /// Mean return of one row over that of another.
    member _.Ratio(numerator: string, denominator: string) =
        let result label = rows |> List.find (fun (name, _) -> name = label) |> snd
        (result numerator).MeanReturn / (result denominator).MeanReturn

    /// A table of plain text.
    override _.ToString() = string table

    /// For notebooks.
    member _.ToHtml() = table.ToHtml()

    /// Writes policy, mean_return, std_return, mean_length, share_terminated and episodes, with all digits.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            [ "policy"; "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
            [
                for label, result in rows do
                    [
                        label
                        Csv.number result.MeanReturn
                        Csv.number result.StdReturn
                        Csv.number result.MeanLength
                        Csv.number result.ShareTerminated
                        string result.Episodes
                    ]
            ]
