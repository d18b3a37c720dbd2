namespace Distill

open System
open System.IO
open System.Reflection
open System.Text.RegularExpressions
open System.Xml.Linq
open Distill.Algorithms

/// What a setting is, from the documentation of its record.
module Help =
    /// Documentation by the compilers' names of members: P:Distill.Networks.AdamConfig.LearningRate.
    let private documentation =
        lazy
            (dict
                [
                    for assembly in [ typeof<DistillationConfig>.Assembly; typeof<Experiment>.Assembly ] do
                        let path = nonNull (Path.ChangeExtension(assembly.Location, ".xml"))

                        if File.Exists path then
                            for entry in XDocument.Load(path).Descendants(XName.Get "member") do
                                match entry.Attribute(XName.Get "name") with
                                | null -> ()
                                | name -> name.Value, entry
                ])

    /// Text as a reader wants it: names instead of references, one space between words.
    let private plain (element: XElement) =
        let rec text (node: XNode) =
            match node with
            | :? XText as text -> text.Value
            | :? XElement as inner when inner.Name.LocalName = "see" ->
                match inner.Attribute(XName.Get "cref") with
                | null -> ""
                | cref -> cref.Value.Substring(cref.Value.LastIndexOf '.' + 1) |> Names.snake
            | :? XElement as inner -> inner.Nodes() |> Seq.map text |> String.concat ""
            | _ -> ""

        Regex.Replace(text element, @"\s+", " ").Trim()

    let private find (key: string) (part: string) (matches: XElement -> bool) =
        match documentation.Value.TryGetValue key with
        | true, entry ->
            entry.Elements(XName.Get part)
            |> Seq.tryFind matches
            |> Option.map plain
            |> Option.defaultValue ""
        | _ -> ""

    /// A record's own description of one of its fields: that of the property, or of the parameter that makes it.
    let private describe (property: PropertyInfo) =
        let owner = property.DeclaringType |> nonNull

        match find $"P:{owner.FullName}.{property.Name}" "summary" (fun _ -> true) with
        | "" ->
            find $"T:{owner.FullName}" "param" (fun parameter ->
                match parameter.Attribute(XName.Get "name") with
                | null -> false
                | name -> name.Value = property.Name)
        | text -> text

    let private wrap (indent: string) (text: string) =
        let lines =
            (("", []), text.Split ' ')
            ||> Array.fold (fun (line, lines) word ->
                if line <> "" && indent.Length + line.Length + word.Length > 98 then
                    word, line :: lines
                else
                    (if line = "" then word else line + " " + word), lines)
            |> fun (line, lines) -> List.rev (line :: lines)

        lines |> List.map (fun line -> indent + line)

    /// The jobs of scripts and the records that they take settings for.
    let private jobs: (string * obj list) list =
        [
            "distil", [ Experiment.empty.Teacher; Experiment.empty.Config; Training.options ]
            "train by PPO", [ TrainTeacher.defaults; Experiment.empty.Teacher; PpoConfig(); Training.options ]
            "train by SAC", [ TrainTeacher.single; SacConfig(); Training.options ]
            "record trajectories", [ RecordTrajectories.defaults ]
            "train an encoder", [ TrainEncoder.defaults; TrajectoryEncodingConfig(); Training.options ]
            "evaluate", [ Evaluate.defaults ]
            "play", [ Play.defaults ]
        ]

    /// All settings, each with the jobs that have it.
    let private settings =
        lazy
            (jobs
             |> List.collect (fun (job, records) -> Settings.catalogue records |> List.map (fun s -> job, s))
             |> List.groupBy (fun (_, s) -> s.Name, s.Needs, describe s.Property)
             |> List.map (fun (_, entries) -> snd entries.Head, entries |> List.map fst |> List.distinct))

    /// Names of settings that their records do not describe.
    let internal undescribed () =
        [
            for s, _ in settings.Value do
                if describe s.Property = "" then
                    s.Name
        ]

    /// Names of the settings of the algorithms, not of environments, that are numbers, or lists of them, and whose records do not
    /// say when to raise and when to lower them.
    let internal undirected () =
        let isNumber (t: Type) =
            let t = SettingText.elementOf t |> Option.defaultValue t |> SettingText.bare

            t <> typeof<string> && t <> typeof<bool> && not t.IsEnum && SettingText.isScalar t

        let says (word: string) (text: string) =
            Regex.IsMatch(text, $@"\b{word}\b", RegexOptions.IgnoreCase)

        [
            for s, _ in settings.Value do
                let text = describe s.Property

                if
                    isNumber s.Property.PropertyType
                    && not (s.Name.StartsWith "environment.")
                    && not (says "raise" text && says "lower" text)
                then
                    s.Name
        ]
        |> List.distinct

    /// Everything about the settings of this name, one after the other.
    let setting (name: string) : string =
        let all = settings.Value

        let named (name: string) =
            all |> List.filter (fun (s, _) -> Names.means name s.Name)

        let found, foreign =
            match named name with
            | [] ->
                let theirs =
                    all
                    |> List.filter (fun (s, _) ->
                        List.contains (Names.leaf name) (Settings.otherNamesOf s.Name))

                theirs, $"{name} is another system's name; here:"
            | ours -> ours, ""

        if found.IsEmpty then
            let names = all |> List.map (fun (s, _) -> Names.leaf s.Name) |> List.distinct
            fail $"There is no setting or target '{name}'; {Names.hint name names}"

        [
            if foreign <> "" then
                foreign

            for s, jobs in found do
                let needs = if s.Needs = "" then "" else $", with {s.Needs}"
                $"{s.Name}{needs}"

                match describe s.Property with
                | "" -> ()
                | text -> yield! wrap "  " text

                for kind, t in Settings.kinds s.Property.PropertyType do
                    let text = find $"T:{t.FullName}" "summary" (fun _ -> true)
                    yield! wrap "    " $"{kind}: {text}"

                let others =
                    match Settings.otherNamesOf s.Name with
                    | [] -> ""
                    | names -> "; elsewhere called " + String.Join(", ", names)

                yield!
                    wrap
                        "  "
                        $"""It is {s.Expected}; default: {s.Default}. To {String.Join(", ", jobs)}{others}."""
        ]
        |> String.concat Environment.NewLine
