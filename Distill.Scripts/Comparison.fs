namespace Distill

open Distill.Evaluation

/// Closed-loop results side by side, a row for each of what is compared: "policy", "drone".
type Comparison(compared: string, rows: (string * EvaluationResult) list) =
    let table =
        Table(
            [ compared; "mean return"; "std"; "mean length"; "terminated %"; "episodes" ],
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

    /// A table of plain text.
    override _.ToString() = string table

    /// For notebooks.
    member _.ToHtml() = table.ToHtml()

    /// Writes what is compared, mean_return, std_return, mean_length, share_terminated and episodes, with all digits.
    member _.WriteCsv(path: string) =
        Csv.write
            path
            [ compared; "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
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
