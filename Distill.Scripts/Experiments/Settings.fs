/// Configuration records as named, typed settings: how the command line changes them and how they are written down.
module Distill.Settings

open System
open System.Collections
open System.Collections.Generic
open System.Reflection
open Microsoft.FSharp.Quotations
open Distill.Records
open Distill.SettingText

/// One place in a tree of records.
type private Setting =
    {
        /// From the root, such as `acting.phase1_iterations`.
        Name: string
        Type: Type
        Nullable: bool
        Value: obj | null
        /// The roots with another value in this place.
        Set: (obj | null) -> obj list
    }

/// Other systems' names for choices.
let private otherKinds =
    dict
        [
            "mse", "mean_squared"
            "kl", "kullback_leibler"
            "fifo", "first_in_first_out"
            "loss_prioritised", "loss_prioritized"
        ]

/// Other systems' names for settings, and those that ours once had, each with ours; of several the first that the records have.
let private otherNames =
    dict
        [
            "actor_group", [ "actor.observation_group" ]
            "actor_hidden", [ "actor.hidden" ]
            "actor_hidden_dims", [ "actor.hidden" ]
            "buffer_size", [ "max_buffer_size"; "replay_capacity" ]
            "checkpoint", [ "policy"; "teacher" ]
            "critic_group", [ "critic.observation_group" ]
            "critic_hidden", [ "critic.hidden" ]
            "critic_hidden_dims", [ "critic.hidden" ]
            "epoch_teacher_forcing", [ "phase1_iterations" ]
            "experiment_name", [ "name" ]
            "interval", [ "loop_seconds" ]
            "loss_type", [ "loss" ]
            "max_iterations", [ "iterations" ]
            "n_epochs", [ "iterations" ]
            "normalise_observations", [ "normalize_observations" ]
            "num_active_teachers", [ "active_teachers.number" ]
            "num_envs", [ "envs" ]
            "num_steps_per_env", [ "steps_per_env" ]
            "optim_steps", [ "num_learning_epochs" ]
            "ramp", [ "ramp_seconds" ]
            "size", [ "half_length" ]
            "solved_return", [ "min_teacher_return" ]
            "step_time", [ "step_seconds" ]
            "tau", [ "polyak" ]
            "teacher_checkpoint", [ "teacher" ]
        ]

/// Groups that other systems' settings are in (`env.scene.num_envs`, `agent.algorithm.learning_rate`).
let private otherGroups = [ "env"; "agent"; "scene"; "algorithm"; "runner" ]

/// Names that mean different things in different systems, and what to ask whoever uses one.
let private ambiguous =
    dict
        [
            "batch_size",
            "is the rows of an optimizer step in some systems (here mini_batch_size) and the steps gathered in an iteration in "
            + "others (here steps_per_env × envs); which do you mean?"
        ]

/// Other systems' flags: the choice they stand for, its kind when the flag is down, and the kind that replaces that when
/// the flag is up.
let private flags =
    dict
        [
            "use_dagger", ("retention", "newest_rollout", "first_in_first_out", true)
            "on_policy", ("retention", "newest_rollout", "first_in_first_out", false)
            "use_two_stage_training", ("acting", "student_always", "teacher_until", true)
            "shuffle", ("sampling", "in_order", "permutation", true)
        ]

/// A copy of a C# record with another value in one property: `record |> set <@ _.Seed @> 1UL`. F# itself has no
/// copy-and-update for them.
let set (property: Expr<'Record -> 'Value>) (value: 'Value) (record: 'Record) : 'Record =
    match property with
    | Patterns.Lambda(_, Patterns.PropertyGet(_, property, _)) ->
        copyWith (nonNull (box record)) property value :?> 'Record
    | _ -> failwith $"{property} is not a property of {typeof<'Record>.Name}."

// The tree

/// All settings of the records, outer before inner. An optional record that is absent has the settings of its default.
let private settingsOf (roots: obj list) : Setting list =
    let rec under (prefix: string) (record: obj) (rebuild: obj -> obj list) : Setting list =
        [
            for p in properties (record.GetType()) do
                let value = p.GetValue record
                let name = prefix + Names.snake p.Name
                let set (value: obj | null) = rebuild (copyWith record p value)

                {
                    Name = name
                    Type = p.PropertyType
                    Nullable = NullabilityInfoContext().Create(p).ReadState = NullabilityState.Nullable
                    Value = value
                    Set = set
                }

                match shapeOf p.PropertyType, value with
                | Record, null ->
                    yield! under (name + ".") (Activator.CreateInstance p.PropertyType |> nonNull) set
                | Record, value
                | Choice, value ->
                    match value with
                    | null -> ()
                    | value -> yield! under (name + ".") value set
                | _ -> ()
        ]

    roots
    |> List.mapi (fun i root -> under "" root (fun changed -> List.updateAt i changed roots))
    |> List.concat

let private matching (name: string) (settings: Setting list) =
    Names.matching (fun (s: Setting) -> s.Name) name settings

let private kindOfValue (setting: Setting) =
    match setting.Value with
    | null -> "null"
    | value -> kindName setting.Type (value.GetType())

/// The sentence for a name that no setting has.
let private unknown (name: string) (settings: Setting list) =
    let elsewhere =
        settings
        |> Seq.filter (fun s -> shapeOf s.Type = Choice)
        |> Seq.collect (fun s -> kindsOf s.Type |> Seq.map (fun (kind, t) -> s, kind, t))
        |> Seq.tryFind (fun (s, kind, t) ->
            kind <> kindOfValue s
            && properties t |> Array.exists (fun p -> Names.means name (s.Name + "." + Names.snake p.Name)))

    match elsewhere with
    | Some(s, kind, _) ->
        fail
            $"'{name}' belongs to {s.Name}={kind}, but here {s.Name} is {kindOfValue s}; add {s.Name}={kind} to use it."
    | None ->
        // The shortest text that means the setting.
        let names =
            settings
            |> List.filter (fun s -> shapeOf s.Type <> Opaque)
            |> List.map (fun s ->
                if (matching (Names.leaf s.Name) settings).Length = 1 then
                    Names.leaf s.Name
                else
                    s.Name)

        fail $"There is no setting '{name}'; {Names.hint (Names.leaf name) names}"

let private find (name: string) (settings: Setting list) =
    match matching name settings with
    | [ one ] -> one
    | [] -> unknown name settings
    | several ->
        let names = String.Join(" or ", several |> List.map _.Name)
        fail $"'{name}' could be {names}; write it in full."

/// Whether the setting of this name holds several values.
let isList (name: string) (records: obj list) =
    matching name (settingsOf records)
    |> List.exists (fun setting ->
        match shapeOf setting.Type with
        | Several _ -> true
        | _ -> false)

let private wrong (setting: Setting) (text: string) (right: string) =
    fail $"{setting.Name}={text} cannot be: it must be {right}."

let private split (argument: string) =
    match Names.assignment argument with
    | Some setting -> setting
    | None -> fail $"'{argument}' is not a setting: write name=value."

/// A flag of another system as the assignment of a choice, or nothing where the choice is as the flag wants it.
let private unflag (settings: Setting list) (name: string, text: string) =
    match flags.TryGetValue name with
    | true, (choice, off, on, upright) when not (matching choice settings).IsEmpty ->
        match Boolean.TryParse text with
        | true, value when value <> upright -> [ choice, off ]
        | true, _ when kindOfValue (find choice settings) = off -> [ choice, on ]
        | true, _ -> []
        | _ -> fail $"{name}={text} cannot be: it must be true or false."
    | _ -> [ name, text ]

/// Our name for another system's, where the records have no such setting.
let rec private ourName (isKnown: string -> bool) (name: string) =
    if isKnown name then
        name
    else
        match otherNames.TryGetValue name, name.IndexOf '.' with
        | (true, ours), _ -> ours |> List.tryFind isKnown |> Option.defaultValue name
        | _, dot when dot > 0 && List.contains (name.Substring(0, dot)) otherGroups ->
            let inner = name.Substring(dot + 1)
            let ours = ourName isKnown inner

            if isKnown ours || flags.ContainsKey ours then
                ours
            else
                name
        | _, dot when dot > 0 ->
            let group = name.Substring(0, name.LastIndexOf '.' + 1)

            match otherNames.TryGetValue(Names.leaf name) with
            | true, ours -> ours |> List.map ((+) group) |> List.tryFind isKnown |> Option.defaultValue name
            | _ -> name
        | _ -> name

let private ourKind (text: string) =
    match otherKinds.TryGetValue text with
    | true, ours -> ours
    | _ -> text

/// What an argument assigns, by our names. `device` is a setting of distillations and PPO: all else has one device.
let private assignments (settings: Setting list) (name: string, text: string) : (string * string) list =
    let known (name: string) = not (matching name settings).IsEmpty

    match ourName known name with
    | "device" when known "device" && text = "cuda:0" -> [ "device", "cuda" ]
    | name when known name && Seq.contains (IO.Path.GetExtension text) Policies.PolicyFile.Endings ->
        // A choice that a file can be.
        match matching name settings with
        | [ one ] when shapeOf one.Type = Choice && List.exists (fst >> (=) "file") (kindsOf one.Type) ->
            [ name, "file"; one.Name + ".file", text ]
        | _ -> [ name, text ]
    | name when known name -> [ name, text ]
    | "device" when text = "cpu" -> []
    | "device" ->
        fail
            $"device={text} cannot be: only distillations and PPO are computed elsewhere than on the CPU, device=cpu."
    | name when ambiguous.ContainsKey name -> fail $"{name}={text}: {name} {ambiguous[name]}"
    | name -> unflag settings (name, text)

/// The names of the settings without default of another kind of a choice, and the records with that kind.
let private switch (records: obj list) (name: string, text: string) : string list * obj list =
    let setting = find name (settingsOf records)
    let kinds = kindsOf setting.Type
    let kind = ourKind text

    match kinds |> List.tryFind (fst >> (=) kind) with
    | Some(kind, _) when kind = kindOfValue setting -> [], records
    | Some(_, t) ->
        let made, without = makeKind t setting.Value
        List.map (fun name -> setting.Name + "." + name) without, setting.Set made
    | None when text = "null" && setting.Nullable -> [], setting.Set null
    | None -> wrong setting text ("one of " + (kinds |> Seq.map fst |> String.concat ", "))

/// The name of a setting, and the records with another value of it.
let private assign (records: obj list) (name: string, text: string) : string * obj list =
    let settings = settingsOf records
    let setting = find name settings

    let changed =
        match shapeOf setting.Type with
        | Record when text = "null" && setting.Nullable -> setting.Set null
        | Record ->
            let inner =
                settings |> List.map _.Name |> List.filter _.StartsWith(setting.Name + ".")

            let all = String.Join(", ", inner)
            fail $"{setting.Name} is a group of settings; set one of {all}."
        | Opaque when text = "null" && setting.Nullable -> setting.Set null
        | Opaque -> fail $"{setting.Name} can only be set in the script."
        | _ ->
            match parse setting.Type text with
            | Some value -> setting.Set value
            | None when text.Split ',' |> Array.forall (parse setting.Type >> Option.isSome) ->
                fail
                    $"{name}={text} has several values, and a run takes one; to try each: dotnet fsi build.fsx sweep SCRIPT {name}={text}"
            | None -> wrong setting text (expected setting.Type)

    setting.Name, changed

/// The records with the settings that the arguments `name=value` give; of several for one setting the last counts. A name
/// is a setting's leaf name where that is unique, or more of its dotted name. Choices are switched first, so that the order
/// of arguments does not matter.
let apply (arguments: string list) (records: obj list) : obj list =
    let original = settingsOf records

    let isSwitch (name, _) =
        match matching name original with
        | [ one ] -> shapeOf one.Type = Choice
        | _ -> false

    let switches, others =
        arguments |> List.collect (split >> assignments original) |> List.partition isSwitch

    let missing, records = List.mapFold switch records switches
    let given, records = List.mapFold assign records others

    match List.concat missing |> List.except given with
    | [] -> records
    | name :: _ -> fail $"{name} has no default: add {Names.leaf name}=… ."

/// What stands for a value that cannot be written as text.
let opaque = "set in the script"

/// The settings as they are written to YAML: nested, with the kind of a choice first.
let rec tree (record: obj) : Dictionary<string, obj | null> =
    let node (shape: Shape) (t: Type) (value: obj) : obj =
        match shape with
        | Record -> tree value
        | Choice ->
            let kind = Dictionary<string, obj | null>()
            kind["kind"] <- kindName t (value.GetType())

            for entry in tree value do
                kind[entry.Key] <- entry.Value

            kind
        | Several _ -> value :?> IEnumerable |> Seq.cast<obj> |> Seq.map plain |> Seq.toArray :> obj
        | Opaque -> opaque
        | Scalar -> plain value

    let nodes = Dictionary<string, obj | null>()

    for p in properties (record.GetType()) do
        nodes[Names.snake p.Name] <-
            match p.GetValue record with
            | null -> null
            | value -> node (shapeOf p.PropertyType) p.PropertyType value

    nodes

/// The records with what files say that have their settings as `tree` gives them, by dotted names: `loss.kind`, `loss.delta`.
/// Also the settings that the files have no value of, because it was made in the script.
let ofTree (nodes: (string * string) list) (records: obj list) : obj list * string list =
    let inside (made: string list) (name: string) =
        made |> List.exists (fun outer -> name.StartsWith(outer + "."))

    let place (records: obj list) (name: string) =
        match settingsOf records |> List.tryFind (fun s -> s.Name = name) with
        | Some setting -> setting
        | None -> fail $"The setting '{name}' is none of this version of Distill."

    let choose (records: obj list) (made: string list) (name: string, kind: string) =
        let setting = place records name

        match kindsOf setting.Type |> List.tryFind (fst >> (=) kind) with
        | Some _ -> snd (switch records (name, kind)), made
        | None -> records, name :: made

    let set (records: obj list) (made: string list) (name: string, text: string) =
        let setting = place records name

        if text = "" && bare setting.Type <> typeof<string> then
            setting.Set null, made
        else
            match shapeOf setting.Type with
            | Scalar
            | Several _ ->
                match parse setting.Type text with
                | Some value -> setting.Set value, made
                // A function of the iteration.
                | None when bare setting.Type = typeof<Schedule> -> records, name :: made
                | None -> wrong setting text (expected setting.Type)
            | _ -> records, name :: made

    ((records, []), nodes)
    ||> List.fold (fun (records, made) (name, text) ->
        if inside made name then
            records, made
        elif text = opaque then
            records, name :: made
        elif Names.leaf name = "kind" then
            choose records made (name.Substring(0, name.Length - ".kind".Length), text)
        else
            set records made (name, text))
    |> fun (records, made) -> records, List.rev made

/// The settings as the names and texts that `apply` takes.
let describe (records: obj list) : (string * string) list =
    let rec flatten (prefix: string) (nodes: Dictionary<string, obj | null>) =
        [
            for entry in nodes do
                match entry.Key, entry.Value with
                | "kind", value -> prefix.TrimEnd '.', formatScalar value
                | name, (:? Dictionary<string, obj | null> as inner) ->
                    yield! flatten (prefix + name + ".") inner
                | name, (:? Array as items) ->
                    let texts = items |> Seq.cast<obj> |> Seq.map formatScalar
                    prefix + name, "[" + String.Join(",", texts) + "]"
                | name, value -> prefix + name, formatScalar value
        ]

    records |> List.collect (tree >> flatten "")

/// The settings that change from iteration to iteration, by their names from the root.
let schedules (records: obj list) : (string * Schedule) list =
    [
        for setting in settingsOf records do
            match setting.Value with
            | :? Schedule as schedule when schedule.Varies -> setting.Name, schedule
            | _ -> ()
    ]

/// A setting that records can have.
type Catalogued =
    {
        /// From the root, such as `acting.phase1_iterations`.
        Name: string

        /// The choice that it depends on, such as `acting=teacher_until`; empty where it is always there.
        Needs: string
        Property: PropertyInfo

        /// What a text for it must be.
        Expected: string

        /// As the command line takes it; "none" where a text must be given.
        Default: string
    }

/// All settings that the records can have, those of kinds that they do not have now included. A kind that holds another of the same
/// choice, such as an environment around others, does not list these once more.
let catalogue (records: obj list) : Catalogued list =
    let rec under (above: Type list) (prefix: string) (needs: string) (record: obj) (without: string list) =
        [
            for p in properties (record.GetType()) do
                let name = prefix + Names.snake p.Name
                let value = p.GetValue record

                let entry (expected: string) (text: string) =
                    {
                        Name = name
                        Needs = needs
                        Property = p
                        Expected = expected
                        Default =
                            if List.contains (Names.snake p.Name) without then
                                "none"
                            else
                                text
                    }

                match shapeOf p.PropertyType with
                | Scalar -> entry (expected p.PropertyType) (formatScalar value)
                | Several _ ->
                    let items =
                        match value with
                        | :? IEnumerable as items -> items |> Seq.cast<obj> |> Seq.map formatScalar
                        | _ -> Seq.empty

                    entry (expected p.PropertyType) $"""[{String.Join(",", items)}]"""
                | Record ->
                    match value with
                    | null ->
                        yield!
                            under
                                above
                                (name + ".")
                                needs
                                (Activator.CreateInstance p.PropertyType |> nonNull)
                                []
                    | value -> yield! under above (name + ".") needs value []
                | Choice ->
                    let kinds = kindsOf p.PropertyType

                    let present =
                        value |> Option.ofObj |> Option.map (fun v -> kindName p.PropertyType (v.GetType()))

                    entry
                        ("one of " + (kinds |> List.map fst |> String.concat ", "))
                        (Option.defaultValue "none" present)

                    for kind, t in (if List.contains p.PropertyType above then [] else kinds) do
                        let made, without =
                            match value with
                            | null -> makeKind t null
                            | value when value.GetType() = t -> value, []
                            | _ -> makeKind t null

                        yield! under (p.PropertyType :: above) (name + ".") $"{name}={kind}" made without
                | Opaque -> ()
        ]

    records |> List.collect (fun record -> under [] "" "" record [])

/// The names that other systems have for a setting of ours, and ours for theirs.
let otherNamesOf (name: string) : string list =
    [
        for entry in otherNames do
            if List.contains (Names.leaf name) entry.Value then
                entry.Key
        for entry in flags do
            let choice, _, _, _ = entry.Value

            if choice = name then
                entry.Key
    ]

/// What a choice is called in files: gru for GruStudent among StudentConfig.
let kinds (choice: Type) : (string * Type) list =
    match shapeOf choice with
    | Choice -> kindsOf choice
    | _ -> []

/// Names of the settings whose values are the defaults: those of the standard records, and where a choice is of another kind
/// than there, those of its kind.
let atDefault (standards: obj list) (records: obj list) : Set<string> =
    let ofKind (kind: Type) =
        match constructorOf kind with
        | Some _ ->
            let made, without = makeKind kind null
            Some(made, Set.ofList without)
        | None -> None

    let text (p: PropertyInfo) (record: obj) =
        match shapeOf p.PropertyType, p.GetValue record with
        | Several _, (:? IEnumerable as items) ->
            items |> Seq.cast<obj> |> Seq.map formatScalar |> String.concat ","
        | _, value -> formatScalar value

    let rec under (prefix: string) (standard: obj, without: Set<string>) (record: obj) : string list =
        [
            for p in properties (record.GetType()) do
                let leaf = Names.snake p.Name
                let name = prefix + leaf

                if not (without.Contains leaf) then
                    match shapeOf p.PropertyType with
                    | Opaque -> ()
                    | Scalar
                    | Several _ ->
                        if text p record = text p standard then
                            name
                    | Record
                    | Choice as shape ->
                        match p.GetValue record, p.GetValue standard with
                        | null, null -> name
                        | null, _
                        | _, null -> ()
                        | value, usual when value.GetType() = usual.GetType() ->
                            if shape = Choice then
                                name

                            yield! under (name + ".") (usual, Set.empty) value
                        | value, _ ->
                            match ofKind (value.GetType()) with
                            | Some usual -> yield! under (name + ".") usual value
                            | None -> ()
        ]

    List.map2 (fun standard record -> under "" (standard, Set.empty) record) standards records
    |> List.concat
    |> Set.ofList

/// A setting under the name, and a choice as the kind, that we have for it.
let translate (known: string seq) (name: string, text: string) : string * string =
    ourName (fun name -> Seq.exists (Names.means name) known) name, ourKind text

/// `apply` to one record.
let apply1 (arguments: string list) (record: 'A) : 'A =
    apply arguments [ nonNull (box record) ] |> List.head :?> 'A

/// `apply` to two records.
let apply2 (arguments: string list) (a: 'A, b: 'B) : 'A * 'B =
    let changed = apply arguments [ nonNull (box a); nonNull (box b) ]
    changed[0] :?> 'A, changed[1] :?> 'B

/// `apply` to three records.
let apply3 (arguments: string list) (a: 'A, b: 'B, c: 'C) : 'A * 'B * 'C =
    let changed = apply arguments [ nonNull (box a); nonNull (box b); nonNull (box c) ]
    changed[0] :?> 'A, changed[1] :?> 'B, changed[2] :?> 'C
