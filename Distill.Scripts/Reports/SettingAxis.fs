namespace Distill

open System

/// Where the values of a setting stand on an axis.
type internal SettingAxis =
    {
        Name: string
        /// "log" for numbers over more than a decade, "linear" for others, "category" for texts.
        Kind: string
        /// The distinct values, numbers by size and texts by letters; None where a trial has no such setting.
        Values: string option list
    }

module internal SettingAxis =
    let private number (value: string option) =
        value |> Option.bind Names.number |> Option.filter Double.IsFinite

    let make (name: string) (values: string option list) : SettingAxis =
        let distinct = List.distinct values
        let numbers = distinct |> List.choose number

        if numbers.Length < distinct.Length then
            { Name = name; Kind = "category"; Values = List.sort distinct }
        else
            let low, high = List.min numbers, List.max numbers

            {
                Name = name
                Kind = if low > 0. && high >= 10. * low then "log" else "linear"
                Values = List.sortBy number distinct
            }

    /// A value as it is shown: numbers shortened.
    let text (value: string option) =
        match number value, value with
        | Some number, _ -> Table.Number number
        | None, Some text when text.Length > 20 -> text.Substring(0, 19) + "…"
        | None, Some text -> text
        | None, None -> "–"

    /// The number of a value; texts are counted.
    let place (axis: SettingAxis) (value: string option) =
        match axis.Kind, number value with
        | "category", _
        | _, None -> float (List.findIndex ((=) value) axis.Values)
        | _, Some number -> number

    /// What a chart puts on its own axis of this kind.
    let onChart (axis: SettingAxis) (value: string option) : IConvertible =
        if axis.Kind = "category" then
            text value
        else
            place axis value

    /// The places of an axis that has no logarithmic form of its own, and the marks on it; no marks for the usual ones.
    let spread (axis: SettingAxis) (values: string option list) : float[] * (float * string) list =
        let scale = if axis.Kind = "log" then Math.Log10 else id
        let at = place axis >> scale

        // Every value has its mark where these are apart enough to be read.
        let places = axis.Values |> List.map at

        let apart =
            places.Length < 2
            || (places |> List.pairwise |> List.map (fun (a, b) -> b - a) |> List.min)
               >= 0.06 * (List.last places - places.Head)

        let marks =
            if axis.Kind = "category" || apart then
                axis.Values |> List.map (fun value -> at value, text value)
            elif axis.Kind = "log" then
                let low, high = at axis.Values.Head, at (List.last axis.Values)

                [
                    for power in int (floor low) .. int (ceil high) do
                        for digit in (if high - low > 3. then [ 1. ] else [ 1.; 2.; 5. ]) do
                            let value = digit * Math.Pow(10., float power)

                            if log10 value >= low - 1e-9 && log10 value <= high + 1e-9 then
                                log10 value, Table.Number value
                ]
            else
                []

        values |> List.map at |> Array.ofList, marks
