/// What a notebook shows of a value.
module Distill.Notebook.Formatting

open System
open System.Collections
open System.Collections.Generic
open System.Globalization
open System.IO
open System.Net
open System.Reflection
open System.Text
open Microsoft.FSharp.Reflection

/// Rows of a table beyond this number are counted, not shown.
let private maxRows = 100

/// Characters of plain text beyond this number are not shown.
let private maxText = 20_000

let private invoke (method: MethodInfo) (target: obj) (arguments: obj array) =
    method.Invoke(target, BindingFlags.DoNotWrapExceptions, null, arguments, null)

/// By the convention of .NET Interactive, which goes by names: the type, or one it inherits from, has an attribute
/// TypeFormatterSourceAttribute whose FormatterSourceType makes formatters with MimeType and Format(value, writer).
let private byFormatterSource (value: obj) : Bundle =
    let property (name: string) (target: obj) =
        match target.GetType().GetProperty name with
        | null -> null
        | property -> property.GetValue target

    let bundle (formatter: obj) =
        match
            formatter.GetType().GetMethod("Format", [| typeof<obj>; typeof<TextWriter> |]),
            property "MimeType" formatter
        with
        | null, _ -> None
        | format, (:? string as mimeType) ->
            use writer = new StringWriter(CultureInfo.InvariantCulture)

            match invoke format formatter [| value; writer |] with
            | :? bool as formatted when formatted -> Some(mimeType, writer.ToString())
            | _ -> None
        | _ -> None

    let formatters (attribute: obj) =
        match property "FormatterSourceType" attribute with
        | :? Type as source ->
            match
                source.GetMethod("CreateTypeFormatters", Type.EmptyTypes), Activator.CreateInstance source
            with
            | null, _
            | _, null -> []
            | create, instance ->
                match invoke create instance [||] with
                | :? IEnumerable as formatters -> formatters |> Seq.cast<obj> |> List.ofSeq
                | _ -> []
        | _ -> []

    value.GetType().GetCustomAttributes true
    |> Seq.filter (fun attribute -> attribute.GetType().Name = "TypeFormatterSourceAttribute")
    |> Seq.collect formatters
    |> Seq.choose bundle
    |> Seq.distinctBy fst
    |> List.ofSeq

/// By a public parameterless method ToHtml that returns a string.
let private byToHtml (value: obj) : Bundle =
    match value.GetType().GetMethod("ToHtml", Type.EmptyTypes) with
    | null -> []
    | method ->
        match invoke method value [||] with
        | :? string as html -> [ "text/html", html ]
        | _ -> []

let private isNumber (value: obj | null) =
    match value with
    | null -> false
    | value ->
        Type.GetTypeCode(value.GetType()) >= TypeCode.SByte
        && Type.GetTypeCode(value.GetType()) <= TypeCode.Decimal

let private cell (value: obj | null) =
    let text =
        match value with
        | null -> ""
        | :? float as x -> x.ToString("G6", CultureInfo.InvariantCulture)
        | :? float32 as x -> x.ToString("G6", CultureInfo.InvariantCulture)
        | :? IFormattable as x -> x.ToString(null, CultureInfo.InvariantCulture)
        | x -> string x

    let alignment = if isNumber value then "right" else "left"
    $"<td style=\"text-align:{alignment}\">{WebUtility.HtmlEncode text}</td>"

/// The value of an option that has one, and null for None; other values as they are.
let private withoutOption (value: obj | null) =
    match value with
    | null -> null
    | value ->
        let shape = value.GetType()

        if shape.IsGenericType && shape.GetGenericTypeDefinition() = typedefof<option<_>> then
            match shape.GetProperty "Value" with
            | null -> value
            | content -> content.GetValue value
        else
            value

/// A sequence of records as a table.
let private byRecords (value: obj) : Bundle =
    let record =
        value.GetType().GetInterfaces()
        |> Seq.filter (fun i -> i.IsGenericType && i.GetGenericTypeDefinition() = typedefof<IEnumerable<_>>)
        |> Seq.map (fun i -> i.GetGenericArguments()[0])
        |> Seq.tryFind (fun element -> FSharpType.IsRecord(element, true))

    match record, value with
    | Some record, (:? IEnumerable as rows) ->
        let fields = FSharpType.GetRecordFields(record, true)
        let shown = rows |> Seq.cast<obj> |> Seq.truncate (maxRows + 1) |> Array.ofSeq
        let html = StringBuilder "<table><thead><tr>"

        for field in fields do
            html.Append($"<th>{WebUtility.HtmlEncode field.Name}</th>") |> ignore

        html.Append "</tr></thead><tbody>" |> ignore

        for row in Seq.truncate maxRows shown do
            html.Append "<tr>" |> ignore

            for field in fields do
                html.Append(cell (withoutOption (field.GetValue row))) |> ignore

            html.Append "</tr>" |> ignore

        html.Append "</tbody></table>" |> ignore

        if shown.Length > maxRows then
            let rest =
                match value with
                | :? ICollection as all -> $"{all.Count - maxRows} more rows"
                | _ -> "more rows"

            html.Append $"<p>… and {rest}</p>" |> ignore

        [ "text/html", html.ToString() ]
    | _ -> []

/// The value's forms. `plain` gives its text.
let bundle (plain: obj -> string) (value: obj | null) : Bundle =
    match value with
    | null -> [ "text/plain", "null" ]
    | value ->
        let rich =
            [ byFormatterSource; byToHtml; byRecords ]
            |> Seq.map (fun forms -> forms value)
            |> Seq.tryFind (not << List.isEmpty)
            |> Option.defaultValue []

        if rich |> List.exists (fun (mimeType, _) -> mimeType = "text/plain") then
            rich
        else
            let text = plain value

            let text =
                if text.Length > maxText then
                    text.Substring(0, maxText) + "…"
                else
                    text

            rich @ [ "text/plain", text ]
