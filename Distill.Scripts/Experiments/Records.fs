/// Records of both languages by reflection: their properties, copies of them, and the kinds of a choice.
module internal Distill.Records

open System
open System.Collections.Generic
open System.Reflection
open Microsoft.FSharp.Reflection
open Distill.SettingText

/// What a setting's type allows.
type Shape =
    /// Written as one text: numbers, booleans, words, enums.
    | Scalar
    /// Written as [a, b, c].
    | Several of element: Type
    /// Has settings of its own.
    | Record
    /// One of several records: an abstract record or an interface.
    | Choice
    /// Cannot be written as text, such as a function.
    | Opaque

let private isCSharpRecord (t: Type) = not (isNull (t.GetMethod "<Clone>$"))

let private isRecord (t: Type) =
    FSharpType.IsRecord t || isCSharpRecord t

let shapeOf (t: Type) =
    match elementOf t with
    | _ when isScalar (bare t) -> Scalar
    | Some element when isScalar element -> Several element
    | _ when (t.IsAbstract && isRecord t) || t.IsInterface -> Choice
    | _ when isRecord t -> Record
    | _ -> Opaque

/// The properties that make up a record, in the order of their declaration, base classes first.
let properties (t: Type) =
    if FSharpType.IsRecord t then
        FSharpType.GetRecordFields t
    else
        let rec lineage (t: Type | null) =
            match t with
            | null -> []
            | t -> t :: lineage t.BaseType

        let depth = lineage t |> List.rev

        t.GetProperties(BindingFlags.Instance ||| BindingFlags.Public)
        |> Array.filter (fun p -> p.CanRead && p.CanWrite)
        |> Array.sortBy (fun p ->
            depth |> List.findIndex (fun t -> Some t = Option.ofObj p.DeclaringType), p.MetadataToken)

/// A copy of a record with another value in one property.
let copyWith (record: obj) (property: PropertyInfo) (value: obj | null) : obj =
    let t = record.GetType()

    if FSharpType.IsRecord t then
        let values =
            FSharpType.GetRecordFields t
            |> Array.map (fun p -> if p.Name = property.Name then value else p.GetValue record)

        FSharpValue.MakeRecord(t, values)
    else
        let clone = nonNull (t.GetMethod "<Clone>$")
        let copy = nonNull (clone.Invoke(record, [||]))
        property.SetValue(copy, value)
        copy

// Choices

/// The name of a kind within its choice: gru for GruStudent among StudentConfig.
let kindName (choice: Type) (kind: Type) =
    let without (ending: string) (name: string) =
        if name.EndsWith ending && name.Length > ending.Length then
            name.Substring(0, name.Length - ending.Length)
        else
            name

    kind.Name |> without "Config" |> without (without "Config" choice.Name) |> Names.snake

let constructorOf (kind: Type) =
    kind.GetConstructors()
    |> Array.filter (fun c -> c.GetParameters() |> Array.forall (fun p -> p.ParameterType <> kind))
    |> Array.sortByDescending (fun c -> c.GetParameters().Length)
    |> Array.tryHead

/// The kinds of a choice that can be written as text, by name.
let kindsOf (choice: Type) =
    choice.Assembly.GetTypes()
    |> Seq.filter (fun t -> not t.IsAbstract && isRecord t && choice.IsAssignableFrom t)
    |> Seq.filter (fun t -> properties t |> Array.forall (fun p -> shapeOf p.PropertyType <> Opaque))
    |> Seq.map (fun t -> kindName choice t, t)
    |> Seq.sortBy fst
    |> Seq.toList

/// A kind with its defaults, and with what the present value has under the same name. Also the settings without default.
let makeKind (kind: Type) (present: obj | null) =
    let presentValue (name: string | null) (t: Type) =
        match present, name with
        | null, _
        | _, null -> None
        | present, name ->
            match present.GetType().GetProperty name with
            | null -> None
            | p when p.PropertyType = t -> Some(p.GetValue present)
            | _ -> None

    match kind.GetConstructor Type.EmptyTypes |> Option.ofObj |> Option.orElse (constructorOf kind) with
    | None -> fail $"A {kind.Name} cannot be made from text."
    | Some constructor ->
        let missing = List<string>()

        let arguments =
            constructor.GetParameters()
            |> Array.map (fun p ->
                match presentValue p.Name p.ParameterType with
                | Some value -> value
                | None when p.HasDefaultValue -> p.DefaultValue
                | None ->
                    missing.Add(Names.snake (string p.Name))

                    if p.ParameterType.IsValueType then
                        Activator.CreateInstance p.ParameterType
                    else
                        null)

        let made = constructor.Invoke arguments
        let given = constructor.GetParameters() |> Array.map (fun p -> string p.Name)

        for p in properties kind do
            if not (Array.contains p.Name given) then
                presentValue p.Name p.PropertyType |> Option.iter (fun value -> p.SetValue(made, value))

        made, List.ofSeq missing
