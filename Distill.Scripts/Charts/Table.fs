namespace Distill

open System
open System.Globalization
open System.Text
open System.Text.RegularExpressions
open Microsoft.FSharp.Reflection

/// A text that leads somewhere, as one cell of a table.
type Link = { Text: string; Address: string }

/// One cell: what is shown, what it is sorted by (NaN for texts), and where it leads ("" for nowhere).
type private TableCell = { Shown: string; Key: float; Address: string }

module private TableCell =
    /// As many digits as a reader needs: 4 significant ones, integers in full.
    let number (value: float) =
        let size = abs value

        if Double.IsNaN value then
            "–"
        elif not (Double.IsFinite value) then
            (if value > 0. then "∞" else "-∞")
        elif value = Math.Round value && size < 1e15 then
            value.ToString "#,0"
        elif size >= 1e7 || size < 1e-4 then
            value.ToString "0.###e0"
        elif size >= 1000. then
            value.ToString "#,0.#"
        else
            let digits = max 0 (3 - int (floor (log10 size)))
            value.ToString("0." + String('#', digits))

    let private text (shown: string) =
        { Shown = shown; Key = nan; Address = "" }

    let rec ofObj (value: obj | null) =
        match value with
        | null -> text "–"
        | :? Link as link -> { text link.Text with Address = link.Address }
        | :? Interval as value ->
            let bounds =
                if Double.IsNaN value.Low then
                    ""
                else
                    $" [{number value.Low}, {number value.High}]"

            { text (number value.Estimate + bounds) with Key = value.Estimate }
        | :? bool as value -> text (if value then "yes" else "no")
        | :? string as value -> text value
        | :? DateTime as value -> { text (value.ToString "yyyy-MM-dd HH:mm:ss") with Key = float value.Ticks }
        | :? float32 as value -> ofObj (Double.Parse(value.ToString "R"))
        | :? Enum as value -> text (string value)
        | :? IConvertible as value ->
            let value = value.ToDouble CultureInfo.InvariantCulture

            { text (number value) with Key = value }
        | value ->
            // An option shows what it holds.
            let t = value.GetType()

            if t.IsGenericType && t.GetGenericTypeDefinition() = typedefof<_ option> then
                let _, fields = FSharpValue.GetUnionFields(value, t)
                ofObj fields[0]
            else
                text (string value)

/// Rows under headings. In a notebook or a page, a click on a heading sorts; on a console it is text in columns.
/// Cells may be numbers, texts, dates, booleans, options, `Interval`, sorted by its estimate, and `Link`.
[<TypeFormatterSource(typeof<ToHtmlFormatterSource>)>]
type Table(headings: seq<string>, rows: seq<seq<obj | null>>) =
    let headings = List.ofSeq headings

    let cells =
        rows
        |> Seq.mapi (fun i row ->
            let cells = row |> Seq.map TableCell.ofObj |> List.ofSeq

            if cells.Length <> headings.Length then
                fail $"Row {i + 1} of a table has {cells.Length} cells under {headings.Length} headings."

            cells)
        |> List.ofSeq

    let column (i: int) = cells |> List.map (List.item i)

    /// Columns of numbers are aligned on the right.
    let numeric =
        headings
        |> List.mapi (fun i _ ->
            let column = column i

            column |> List.exists (fun cell -> not (Double.IsNaN cell.Key))
            && column |> List.forall (fun cell -> cell.Shown = "–" || not (Double.IsNaN cell.Key)))

    let classOf (i: int) =
        if numeric[i] then " class=\"n\"" else ""

    /// Escaped, and with places where a long name or path may go on on the next line.
    let breakable (text: string) =
        Regex.Replace(Page.escape text, @"(?<=\w[_./])(?=\w{2})", "<wbr>")

    let html () =
        let text = StringBuilder()
        text.Append "<div class=\"distill-table\"><table><thead><tr>" |> ignore

        headings
        |> List.iteri (fun i heading ->
            text.Append
                $"<th{classOf i} scope=\"col\"><button type=\"button\">{Page.escape heading}</button></th>"
            |> ignore)

        text.Append "</tr></thead><tbody>" |> ignore

        for row in cells do
            text.Append "<tr>" |> ignore

            row
            |> List.iteri (fun i cell ->
                let key =
                    if numeric[i] then
                        $" data-key=\"{cell.Key.ToString CultureInfo.InvariantCulture}\""
                    else
                        ""

                let shown =
                    match cell.Address with
                    | "" when cell.Shown.Length > 16 && Double.IsNaN cell.Key -> breakable cell.Shown
                    | "" -> Page.escape cell.Shown
                    | address -> $"<a href=\"{Page.escape address}\">{Page.escape cell.Shown}</a>"

                text.Append $"<td{classOf i}{key}>{shown}</td>" |> ignore)

            text.Append "</tr>" |> ignore

        text.Append("</tbody></table></div>").ToString()

    /// A table of the fields of records.
    static member ofRecords(records: seq<'Record>) =
        let fields =
            if FSharpType.IsRecord typeof<'Record> then
                FSharpType.GetRecordFields typeof<'Record>
            else
                typeof<'Record>.GetProperties()
                |> Array.filter (fun p -> p.CanRead && p.GetIndexParameters().Length = 0)

        Table(
            fields |> Seq.map _.Name,
            records |> Seq.map (fun record -> fields |> Seq.map (fun field -> field.GetValue(box record)))
        )

    /// A number with as many digits as a reader needs.
    static member Number(value: float) = TableCell.number value

    member _.Headings = headings
    member _.RowCount = cells.Length

    /// What a page needs once, before or after its tables.
    static member internal Script =
        "<style>" + Page.text "table.css" + "</style><script>" + Page.text "table.js" + "</script>"

    member internal _.ToElement() = html ()

    /// HTML for a notebook.
    member _.ToHtml() = html () + Table.Script

    /// Columns of text, for a console.
    override _.ToString() =
        let columns =
            headings |> List.mapi (fun i heading -> heading :: (column i |> List.map _.Shown))

        let widths = columns |> List.map (List.map String.length >> List.max)

        let line (parts: string list) =
            List.zip3 parts widths numeric
            |> List.map (fun (part, width, numeric) ->
                if numeric then part.PadLeft width else part.PadRight width)
            |> String.concat "  "
            |> _.TrimEnd()

        let rule =
            widths |> List.map (fun width -> String('-', width)) |> String.concat "  "

        line headings :: rule :: (cells |> List.map (List.map _.Shown >> line)) |> String.concat "\n"
