/// Values of settings as text: numbers, booleans, words, enums and lists of them.
module Distill.SettingText

open System
open System.Collections.Generic
open System.Globalization
open System.Text.RegularExpressions

/// The type of the elements of a list or an array.
let elementOf (t: Type) =
    if t.IsArray then
        Option.ofObj (t.GetElementType())
    elif
        t.IsGenericType
        && (t.GetGenericTypeDefinition() = typedefof<IReadOnlyList<_>>
            || t.GetGenericTypeDefinition() = typedefof<list<_>>)
    then
        Some t.GenericTypeArguments[0]
    else
        None

/// Whether one value is one text.
let isScalar (t: Type) =
    t.IsEnum
    || List.contains
        t
        [
            typeof<string>
            typeof<bool>
            typeof<int>
            typeof<int64>
            typeof<uint64>
            typeof<float>
            typeof<float32>
            typeof<Schedule>
        ]

/// The type without Nullable.
let bare (t: Type) =
    match Nullable.GetUnderlyingType t with
    | null -> t
    | inner -> inner

/// What a text for this type must be, for messages.
let expected (t: Type) =
    let one (t: Type) =
        if t.IsEnum then
            "one of " + (Enum.GetNames t |> Seq.map Names.snake |> String.concat ", ")
        elif t = typeof<bool> then
            "true or false"
        elif t = typeof<string> then
            "a text"
        elif t = typeof<Schedule> then
            "a number, or a schedule of the iteration such as linear(1e-3,1e-4,200)"
        elif t = typeof<float> || t = typeof<float32> then
            "a number such as 0.001 or 1e-3"
        elif t = typeof<uint64> then
            "a whole number from 0"
        else
            "a whole number such as 500_000"

    match elementOf t with
    | Some element -> $"a list such as [64,64], each {one element}"
    | None when bare t <> t -> one (bare t) + ", or null"
    | None -> one t

/// Digits may be grouped: 500_000.
let private ungrouped (text: string) =
    Regex.Replace(text, @"(?<=\d)_(?=\d)", "")

let private parseScalar (t: Type) (text: string) : obj option =
    let culture = CultureInfo.InvariantCulture
    let number = ungrouped text
    // 1e5 is a whole number, too; 1.5e1 would be, but nobody writes it.
    let whole = NumberStyles.AllowLeadingSign ||| NumberStyles.AllowExponent

    /// What a TryParse gives, as an option.
    let some (ok: bool, value: 'T) : obj option = if ok then Some(value :> obj) else None

    if t.IsEnum then
        Enum.GetNames t
        |> Array.tryFind (fun name ->
            Names.snake name = text || String.Equals(name, text, StringComparison.OrdinalIgnoreCase))
        |> Option.map (fun name -> Enum.Parse(t, name))
    elif t = typeof<string> then
        Some(text :> obj)
    elif t = typeof<bool> then
        some (Boolean.TryParse text)
    elif t = typeof<Schedule> then
        some (Schedule.TryParse number)
    elif t = typeof<int> then
        some (Int32.TryParse(number, whole, culture))
    elif t = typeof<int64> then
        some (Int64.TryParse(number, whole, culture))
    elif t = typeof<uint64> then
        some (UInt64.TryParse(number, whole, culture))
    elif t = typeof<float> then
        match Double.TryParse(number, NumberStyles.Float, culture) with
        | true, value when Double.IsFinite value -> Some(value :> obj)
        | _ -> None
    else
        match Single.TryParse(number, NumberStyles.Float, culture) with
        | true, value when Single.IsFinite value -> Some(value :> obj)
        | _ -> None

let private makeList (t: Type) (element: Type) (items: obj list) : obj =
    let array = Array.CreateInstance(element, items.Length)
    items |> List.iteri (fun i item -> array.SetValue(item, i))

    if t.IsGenericType && t.GetGenericTypeDefinition() = typedefof<list<_>> then
        let ofArray =
            (typeof<list<int>>.Assembly.GetType "Microsoft.FSharp.Collections.ListModule" |> nonNull)
                .GetMethod("OfArray")
            |> nonNull

        nonNull (ofArray.MakeGenericMethod(element).Invoke(null, [| array |]))
    else
        array

/// The value that a text stands for, if it does.
let parse (t: Type) (text: string) : (obj | null) option =
    match elementOf t with
    | Some element ->
        let inner =
            if text.StartsWith '[' && text.EndsWith ']' then
                text.Substring(1, text.Length - 2)
            else
                text

        let items =
            inner.Split(',', StringSplitOptions.TrimEntries)
            |> Array.filter (fun item -> item <> "" || inner.Trim() <> "")
            |> Array.map (parseScalar element)

        if Array.forall Option.isSome items then
            Some(makeList t element (items |> Array.map Option.get |> Array.toList))
        else
            None
    | None when bare t <> t && text = "null" -> Some null
    | None -> parseScalar (bare t) text |> Option.map (fun value -> value)

/// A value as YAML writes it well.
let plain (value: obj) : obj =
    match value with
    | :? Enum as value -> Names.snake (string value)
    | :? Schedule as schedule when schedule.Varies -> string schedule
    | :? Schedule as schedule when Double.IsInteger schedule.Value && abs schedule.Value < 1e15 ->
        int64 schedule.Value
    | :? Schedule as schedule -> schedule.Value
    | value -> value

/// The inverse of parsing, for one value.
let formatScalar (value: obj | null) =
    match value with
    | null -> "null"
    | :? Enum as value -> Names.snake (string value)
    | :? bool as value -> if value then "true" else "false"
    | :? float as value -> value.ToString("R", CultureInfo.InvariantCulture)
    | :? float32 as value -> value.ToString("R", CultureInfo.InvariantCulture)
    | value -> Convert.ToString(value, CultureInfo.InvariantCulture) |> string
