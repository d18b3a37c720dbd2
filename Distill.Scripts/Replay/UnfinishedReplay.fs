namespace Distill

open System
open System.IO
open Distill.Environments.Quadrotor
open Distill.Policies
open Distill.Storage

/// Flights of a run that has not finished: those that the end of a run records, flown with what it has trained so far.
module internal UnfinishedReplay =

    let private settings (run: RunRecord) (file: string) =
        run.Parameters |> List.tryFind (fst >> (=) file) |> Option.map snd |> Option.defaultValue []

    /// The environment that the run's params/env.yaml describes.
    let private environment (run: RunRecord) : QuadrotorConfig =
        let settings = settings run "env"

        if not (List.contains ("kind", "quadrotor") settings) then
            fail $"'{run.Folder}' has no recorded flights; only runs of quadrotors have them."

        let nodes = settings |> List.filter (fst >> (<>) "kind")
        Settings.ofTree nodes [ QuadrotorConfig() ] |> fst |> List.exactlyOne :?> QuadrotorConfig

    /// The best policy of the evaluations so far, or before the first of them the newest checkpoint.
    let private newest (run: RunRecord) : Policy =
        let iteration (name: string) =
            Names.wholeNumber (name.Replace(run.Role + "_", "").Replace(".safetensors", ""))

        let best = $"best_{run.Role}.safetensors"
        let names = run.Checkpoints |> List.map fst

        let name =
            if List.contains best names then
                best
            else
                match names |> List.filter (iteration >> Option.isSome) with
                | [] -> fail $"'{run.Folder}' has no recorded flights and no checkpoint of a {run.Role} yet."
                | names -> List.maxBy iteration names

        PolicyFile.Load((RunFolder run.Folder).Checkpoint name)

    /// The teacher that the run's params/agent.yaml names; a run that trains one has none.
    let private teacher (agent: Map<string, string>) : Policy option =
        let settings =
            [
                for name in [ "teacher"; "teacher_index"; "teacher_group"; "teacher_activation" ] do
                    match agent.TryFind name with
                    | Some value when value <> "" -> $"{name}={value}"
                    | _ -> ()
            ]

        let file = Settings.apply1 settings Teacher.none

        match Teacher.kind file with
        | TeacherKind.File when not (File.Exists file.Teacher) ->
            fail $"The run's teacher, {file.Teacher}, is not there."
        | TeacherKind.File -> Some(Teacher.read file)
        // Of several, no single one flies everywhere.
        | _ -> None

    /// The replay of the flights that a run recorded at its end, or else of flights with what it has so far, which are not
    /// kept.
    let ofRun (folder: string) : Replay =
        let run = RunRecord.read folder

        if (FlightRecording.ofRun folder).IsEmpty then
            let config = environment run
            let agent = settings run "agent" |> Map.ofList
            use trained = newest run
            let teacher = teacher agent

            try
                let policies =
                    [
                        match teacher with
                        | Some teacher when run.Role = "student" -> "teacher", teacher
                        | _ -> ()
                        run.Role, trained
                    ]

                Training.flights
                    config
                    (agent.TryFind "seed"
                     |> Option.map UInt64.TryParse
                     |> Option.filter fst
                     |> Option.map snd
                     |> Option.defaultValue 0UL)
                    policies
                |> fun flights ->
                    Replay($"{run.Experiment} {run.Run}, after {run.Iterations} iterations", flights)
            finally
                teacher |> Option.iter (fun teacher -> (teacher :> IDisposable).Dispose())
        else
            Replay.ofRun folder
