namespace Distill

open System
open System.IO

// Notebook hosts find out how to show a value by these names, without a reference to any of them: .NET Interactive looks
// for an attribute called TypeFormatterSourceAttribute, Verso and Distill's own host for a method ToHtml.

/// Marks types that notebooks show as HTML.
[<AttributeUsage(AttributeTargets.Class)>]
type TypeFormatterSourceAttribute(formatterSourceType: Type) =
    inherit Attribute()
    member _.FormatterSourceType = formatterSourceType
    member val PreferredMimeTypes = [| "text/html" |] with get, set

/// Writes a value in one of the forms that it has.
type ValueFormatter(mimeType: string, text: obj -> string) =
    member _.MimeType = mimeType

    member _.Format(value: obj, writer: TextWriter) : bool =
        writer.Write(text value)
        true

/// Formats what has a method ToHtml.
type ToHtmlFormatterSource() =
    let toHtml (value: obj) =
        match value.GetType().GetMethod("ToHtml", Type.EmptyTypes) with
        | null -> string value
        | toHtml -> string (toHtml.Invoke(value, [||]))

    member _.CreateTypeFormatters() : seq<ValueFormatter> =
        [ ValueFormatter("text/html", toHtml); ValueFormatter("text/plain", string) ]
