namespace Distill

open System
open System.IO
open Distill.Compute
open Distill.Datasets
open Distill.Environments
open Distill.Evaluation
open Distill.Storage

/// Whose episodes are recorded, and where.
type TrajectorySource =
    {
        /// Environments with a limit of steps, whose variants, such as tasks, are the tasks of the episodes.
        Environment: IEnvironmentConfig

        /// Who acts: the policy in a file, a set of them, or an expert of the environments' own such as
        /// `Teacher.environment "noisy_expert"`.
        Driver: TeacherFile
    }

/// Whole episodes of equal length from several sources in one file, such as a trajectory encoder is trained on.
type RecordTrajectories =
    {
        /// The .safetensors file to write. It stays as it is where it was made with the same settings.
        Trajectories: string

        /// The observation group that is recorded as the state.
        States: string

        /// Episodes of each task from each source. Raise it when an encoder tells tasks apart in the episodes it was trained on and not
        /// in others, lower it for a smaller file.
        Episodes: int

        /// Seed of the episodes' starts.
        Seed: uint64

        /// Threads that compute; 0 for one per processor.
        Threads: int
    }

module RecordTrajectories =
    /// Name of a file's entry that says from what it was made.
    let private key = "distill.fingerprint"

    let defaults: RecordTrajectories =
        { Trajectories = ""; States = "student"; Episodes = 100; Seed = 0UL; Threads = 0 }

    let private check (recording: RecordTrajectories) (sources: TrajectorySource list) =
        if recording.Trajectories = "" then
            fail "Where to? Name the file to write: trajectories=FILE.safetensors."

        if sources.IsEmpty then
            fail "There is no source of trajectories."

        Training.atLeastOne "episodes" recording.Episodes

    /// What makes the file what it is: settings, sources, and the content of the policies' files.
    let private fingerprint (recording: RecordTrajectories) (sources: TrajectorySource list) =
        [
            yield! Settings.describe [ { recording with Trajectories = "" } ]
            for i, source in List.indexed sources do
                for name, value in Settings.describe [ source ] do
                    $"source_{i}.{name}", value
        ]
        |> Fingerprint.hasher ()

    let private standing (recording: RecordTrajectories) (fingerprint: string) =
        File.Exists recording.Trajectories
        && (match SafeTensors.Read(recording.Trajectories).Metadata.TryGetValue key with
            | true, before -> before = fingerprint
            | _ -> false)

    /// One source's episodes.
    let private record
        (recording: RecordTrajectories)
        (pool: WorkerPool)
        (i: int)
        (source: TrajectorySource)
        =
        let spec = source.Environment.Spec
        use driver = Teacher.readAll source.Driver spec
        let episodes = max 1 spec.Variants.Count * recording.Episodes
        let seed = RandomStream(recording.Seed, $"trajectories.{i}").Seed()
        use evaluator = new Evaluator(source.Environment, episodes, seed, pool)
        use record = new EpisodeRecord(spec, episodes, [| recording.States |])
        let result = evaluator.Run(driver, record)
        let trajectories = record.Trajectories(result, recording.States)

        let leftOut =
            if trajectories.Episodes < episodes then
                $"; {episodes - trajectories.Episodes} that ended before the limit are left out"
            else
                ""

        say
            $"{source.Driver.Teacher} in {spec.Name}: {trajectories.Episodes} episodes of {trajectories.Steps} steps, return {result.MeanReturn:F1}{leftOut}"

        trajectories

    /// Records them, unless they stand.
    let run (recording: RecordTrajectories) (sources: TrajectorySource list) : Trajectories =
        check recording sources
        let fingerprint = fingerprint recording sources

        if standing recording fingerprint then
            say $"{recording.Trajectories} was made with these settings before."
            Trajectories.Load recording.Trajectories
        else
            use pool = Training.pool recording.Threads

            let all =
                sources |> List.mapi (record recording pool) |> List.toArray |> Trajectories.Of

            Training.makeFolderOf recording.Trajectories
            all.Save(recording.Trajectories, dict [ key, fingerprint ] |> Collections.Generic.Dictionary)
            let tasks = String.Join(", ", all.TaskNames)
            say $"Trajectories: {Command.shortest recording.Trajectories}: {all.Episodes} episodes of {tasks}"
            all
