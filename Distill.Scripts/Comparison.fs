namespace Distill

open Distill.Evaluation

/// Closed-loop results of policies side by side, on the same episodes.
type Comparison(rows: (string * EvaluationResult) list) =
    /// Label and result, in the order of the table.
    member _.Rows = rows

    /// Mean return of one row over that of another.
    member _.Ratio(numerator: string, denominator: string) =
        let result label = rows |> List.find (fun (name, _) -> name = label) |> snd
        (result numerator).MeanReturn / (result denominator).MeanReturn

    /// What every row says, for whatever form of table.
    member private _.Cells =
        [ "policy"; "mean return"; "std"; "mean length"; "terminated"; "episodes" ],
        [
            for label, result in rows do
                [
                    label
                    $"{result.MeanReturn:F1}"
                    $"{result.StdReturn:F1}"
                    $"{result.MeanLength:F1}"
                    $"{100.0 * result.ShareTerminated:F1} %%"
                    string result.Episodes
                ]
        ]

    /// A table of plain text.
    override this.ToString() =
        let head, body = this.Cells
        Table.text head body

    /// For notebooks.
    member this.ToHtml() =
        let head, body = this.Cells
        Table.html head body

    /// Writes policy, mean_return, std_return, mean_length, share_terminated and episodes, with all digits.
    member _.WriteCsv(path: string) =
        Table.writeCsv
            path
            [ "policy"; "mean_return"; "std_return"; "mean_length"; "share_terminated"; "episodes" ]
            [
                for label, result in rows do
                    [
                        label
                        Table.number result.MeanReturn
                        Table.number result.StdReturn
                        Table.number result.MeanLength
                        Table.number result.ShareTerminated
                        string result.Episodes
                    ]
            ]
