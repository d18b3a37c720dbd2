namespace Distill

open System
open System.Buffers
open System.Text
open System.Text.Json

/// A JSON value, for figures and pages, and for settings of plotly.js that `Chart` has no name for.
[<RequireQualifiedAccess>]
type Json =
    | Null
    | Bool of bool
    /// NaN and the infinities are written as null, which plotly.js draws as a gap.
    | Number of float
    | Text of string
    | List of Json list
    /// Many numbers, as compact as they can be.
    | Numbers of float[]
    /// Names are unique; a later value replaces an earlier one.
    | Object of (string * Json) list

module Json =
    let private writeNumber (json: Utf8JsonWriter) (value: float) =
        if Double.IsFinite value then
            json.WriteNumberValue value
        else
            json.WriteNullValue()

    let rec private write (json: Utf8JsonWriter) (value: Json) =
        match value with
        | Json.Null -> json.WriteNullValue()
        | Json.Bool value -> json.WriteBooleanValue value
        | Json.Number value -> writeNumber json value
        | Json.Text value -> json.WriteStringValue value
        | Json.List values ->
            json.WriteStartArray()
            values |> List.iter (write json)
            json.WriteEndArray()
        | Json.Numbers values ->
            json.WriteStartArray()
            values |> Array.iter (writeNumber json)
            json.WriteEndArray()
        | Json.Object fields ->
            json.WriteStartObject()

            for name, value in fields do
                json.WritePropertyName name
                write json value

            json.WriteEndObject()

    /// The text. Characters that mean something to HTML are escaped, so that it can stand in a script element.
    let toText (value: Json) =
        let buffer = ArrayBufferWriter<byte>()
        use json = new Utf8JsonWriter(buffer)
        write json value
        json.Flush()
        Encoding.UTF8.GetString buffer.WrittenSpan

    /// One object with the fields of both; where both have a name, the second wins, and objects are merged in turn.
    let rec merge (first: Json) (second: Json) =
        match first, second with
        | Json.Object a, Json.Object b ->
            let replaced =
                a
                |> List.map (fun (name, value) ->
                    match List.tryFind (fst >> (=) name) b with
                    | Some(_, other) -> name, merge value other
                    | None -> name, value)

            let added = b |> List.filter (fun (name, _) -> a |> List.forall (fst >> (<>) name))

            Json.Object(replaced @ added)
        | _ -> second

    /// The object without the fields that were not given.
    let ofOptions (fields: (string * Json option) list) =
        fields
        |> List.choose (fun (name, value) -> value |> Option.map (fun value -> name, value))
        |> Json.Object

    /// Numbers, texts, dates and booleans as plotly.js takes them.
    let ofConvertible (value: IConvertible | null) =
        match value with
        | null -> Json.Null
        | value ->
            match value.GetTypeCode() with
            | TypeCode.Boolean -> Json.Bool(value.ToBoolean null)
            | TypeCode.DateTime -> Json.Text(value.ToDateTime(null).ToString "yyyy-MM-dd HH:mm:ss.fff")
            | TypeCode.Char
            | TypeCode.String -> Json.Text(value.ToString null)
            // By way of the text: 0.1f is 0.1, not 0.10000000149.
            | TypeCode.Single -> Json.Number(Double.Parse((value.ToSingle null).ToString "R"))
            | TypeCode.Empty
            | TypeCode.DBNull
            | TypeCode.Object -> Json.Text(string value)
            | _ when value.GetType().IsEnum -> Json.Text(string value)
            | _ -> Json.Number(value.ToDouble null)

    /// A column of data.
    let ofSeq (values: seq<#IConvertible>) =
        let cells = values |> Seq.map (fun value -> ofConvertible value) |> Seq.toArray

        let numbers =
            cells
            |> Array.choose (function
                | Json.Number value -> Some value
                | _ -> None)

        if numbers.Length = cells.Length then
            Json.Numbers numbers
        else
            Json.List(List.ofArray cells)
