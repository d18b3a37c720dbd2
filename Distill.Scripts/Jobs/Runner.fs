namespace Distill

open System
open System.Collections.Generic
open System.Diagnostics
open System.IO
open System.Runtime.InteropServices
open Distill.Environments
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Storage

/// What the runner needs to know of an algorithm: how to go on, what its state is, and which policy it makes.
type Algorithm =
    {
        /// What the policy is called in file names: "student" or "teacher".
        Role: string
        Policy: Policy

        /// What values states beside it, or actions in them, by the names of the files that are kept with the best policy.
        Critics: (string * Policy) list

        /// What trains the policy.
        Optimizer: Optimizer

        /// Iterations completed.
        Completed: unit -> int
        Iterate: unit -> Progress
        Visit: State -> unit

        /// Metrics that are logged with every evaluation, to compare it with: those of the teacher on the same episodes.
        Reference: (string * float) list

        /// What is wrong from the start, in sentences that the run folder keeps for its report.
        Warnings: string list
    }

/// By which measure of an evaluation the best policy is found.
type Best =
    {
        Measure: string
        Highest: bool
    }

    /// Whether it is a measure of the environment's, which not every evaluation has.
    member best.IsOwn =
        not (List.contains best.Measure [ "return"; "length"; "share_terminated"; "loss" ])

module Best =
    /// By the lowest loss, where there is nothing to evaluate in.
    let byLoss: Best = { Measure = "loss"; Highest = false }

    /// The measure of this name, of the environment's or of every evaluation.
    let by (environment: EnvironmentSpec) (measure: string) : Best =
        let own = environment.Measures |> List.ofSeq

        match measure, own |> List.tryFind (fun known -> known.Name = measure) with
        | "return", _
        | "length", _ -> { Measure = measure; Highest = true }
        | "share_terminated", _ -> { Measure = measure; Highest = false }
        | _, Some known -> { Measure = measure; Highest = known.HigherIsBetter }
        | _, None ->
            let names =
                [ "return"; "length"; "share_terminated" ] @ [ for known in own -> known.Name ]
                |> String.concat ", "

            fail $"best_by={measure} cannot work; evaluations of {environment.Name} measure {names}."

/// How long a run is, and how often it stops to look and to save.
type Plan =
    {
        Iterations: int
        SaveInterval: int
        EvaluationInterval: int
        EvaluationEpisodes: int
        FinalEpisodes: int
        Best: Best

        /// The measure, and what of it is to be reached, whose first evaluation is looked for, if one is.
        Target: (string * float) option

        /// What the environments differ in; evaluations tell of each, where they are few.
        Variants: IReadOnlyList<string>
    }

/// How the loop ended.
[<RequireQualifiedAccess>]
type Ending =
    | Finished
    /// By a signal, which stands for this exit code; 0 where it stopped as it was asked to before.
    | Interrupted of exitCode: int

/// The loop that all training shares: iterate, evaluate, keep the best, log, save, stop when asked to.
module Runner =
    let stateName = "state.safetensors"

    /// Variants that evaluations still tell apart.
    [<Literal>]
    let MostVariants = 16

    /// What the runner itself must remember over a restart.
    type internal Memory =
        val mutable BestReturn: float

        /// The measure of the best policy, if that is another than the return.
        val mutable BestValue: float

        /// Environment steps after which an evaluation first reached the target; 0 where none did.
        val mutable StepsToTarget: int64

        /// Iterations completed when the best policy was found.
        val mutable BestIteration: int

        /// Seconds of training.
        val mutable Elapsed: float

        new() =
            {
                BestReturn = Double.NegativeInfinity
                BestValue = Double.NegativeInfinity
                StepsToTarget = 0L
                BestIteration = 0
                Elapsed = 0.0
            }

        member memory.Visit(plan: Plan, state: State) =
            state.Block("best_return", MemoryMarshal.CreateSpan(&memory.BestReturn, 1))

            if plan.Best.Measure <> "return" then
                state.Block("best_value", MemoryMarshal.CreateSpan(&memory.BestValue, 1))

            if plan.Target.IsSome then
                state.Count("steps_to_target", &memory.StepsToTarget)

            state.Count("best_iteration", &memory.BestIteration)
            state.Amount("elapsed", &memory.Elapsed)
            // More than a TimeSpan holds, and than any run.
            state.Require("elapsed", memory.Elapsed < 1e11, memory.Elapsed, "a duration")

    let private visit (plan: Plan) (algorithm: Algorithm) (memory: Memory) (state: State) =
        state.Part("runner", fun part -> memory.Visit(plan, part))
        state.Part("algorithm", fun part -> algorithm.Visit part)

    let internal save
        (folder: RunFolder)
        (plan: Plan)
        (algorithm: Algorithm)
        (memory: Memory)
        (log: MetricsLog)
        =
        log.Flush()
        StateFile.Save(folder.Checkpoint stateName, visit plan algorithm memory)

    /// The file from which the run goes on.
    let statePath (folder: RunFolder) = folder.Checkpoint stateName

    /// Whether the run has a state to go on from.
    let hasState (folder: RunFolder) = File.Exists(statePath folder)

    /// Refuses to go on with a run that was never saved.
    let internal requireState (folder: RunFolder) =
        if not (hasState folder) then
            fail $"{folder.Path} has no checkpoint to go on from; start the run anew."

    /// Puts the algorithm where the run in the folder was saved, and gives what the runner remembers of it.
    let internal restore (folder: RunFolder) (plan: Plan) (algorithm: Algorithm) : Memory =
        requireState folder
        let memory = Memory()
        StateFile.Load(statePath folder, visit plan algorithm memory)
        memory

    /// The metrics of an evaluation.
    let private evaluationMetrics (result: EvaluationResult) =
        [
            "evaluation/mean_return", result.MeanReturn
            "evaluation/std_return", result.StdReturn
            "evaluation/mean_length", result.MeanLength
            "evaluation/share_terminated", result.ShareTerminated
        ]

    let internal iterationMetrics (progress: Progress) (clock: Clock) =
        [
            yield! progress.Metrics
            match progress.MeanReturn with
            | Some value -> "Train/mean_reward", value
            | None -> ()
            match progress.MeanEpisodeLength with
            | Some value -> "Train/mean_episode_length", value
            | None -> ()
            "Perf/total_fps", clock.StepsPerSecond
            "Perf/collection_time", progress.CollectionSeconds
            "Perf/learning_time", progress.LearningSeconds
        ]

    /// An evaluation in words.
    let describe (result: EvaluationResult) =
        $"return {result.MeanReturn:F1} (std {result.StdReturn:F1}), length {result.MeanLength:F1}, "
        + $"{100.0 * result.ShareTerminated:F1} %% terminated ({result.Episodes} episodes)"

    /// Returns, and what the best policy is found by, of each of a few variants of the environments.
    let private variantMetrics (plan: Plan) (result: EvaluationResult) =
        [
            if plan.Variants.Count > 1 && plan.Variants.Count <= MostVariants then
                for name, alone in Seq.zip plan.Variants (result.ByVariant plan.Variants) do
                    $"variants/{name}/return", alone.MeanReturn

                    if plan.Best.IsOwn then
                        $"variants/{name}/{plan.Best.Measure}", alone.Mean plan.Best.Measure
        ]

    /// Writes the policy after these iterations in both forms: safetensors, and .pt with what PyTorch users expect beside it.
    let internal savePolicy
        (folder: RunFolder)
        (name: string)
        (algorithm: Algorithm)
        (memory: Memory)
        (iteration: int)
        =
        algorithm.Policy.Metadata["iteration"] <- string iteration
        PolicyFile.Save(folder.Checkpoint $"{name}.safetensors", algorithm.Policy)

        PolicyFile.Save(
            folder.Checkpoint $"{name}.pt",
            algorithm.Policy,
            iteration,
            algorithm.Optimizer,
            (if not (Double.IsFinite memory.BestReturn) then
                 Nullable()
             else
                 Nullable memory.BestReturn)
        )

    /// Times of a run, those before it was stopped included.
    let internal clock (iterations: int) (first: int) (memory: Memory) : Progress -> Clock =
        let before = memory.Elapsed
        let watch = Stopwatch.StartNew()
        let stepsBefore = ref -1L

        fun progress ->
            let session = watch.Elapsed
            let completed = progress.Iteration + 1

            let steps =
                if stepsBefore.Value < 0L then
                    progress.StepsCollected / int64 completed
                else
                    progress.StepsCollected - stepsBefore.Value

            stepsBefore.Value <- progress.StepsCollected

            {
                Iterations = iterations
                Elapsed = session + TimeSpan.FromSeconds before
                Remaining = session * (float (iterations - completed) / float (completed - first))
                StepsPerSecond =
                    float steps / max 1e-9 (progress.CollectionSeconds + progress.LearningSeconds)
            }

    /// Whether the target is reached for the first time, and the metric that says when it was.
    let private seekTarget
        (plan: Plan)
        (display: Display)
        (memory: Memory)
        (steps: int64)
        (result: EvaluationResult)
        =
        match plan.Target with
        | Some(measure, target) ->
            if memory.StepsToTarget = 0L && result.Mean measure >= target then
                memory.StepsToTarget <- steps
                display.Say $"The {measure} has reached {target:G6} after {steps} environment steps"

            if memory.StepsToTarget > 0L then
                [ "evaluation/steps_to_target", float memory.StepsToTarget ]
            else
                []
        | None -> []

    /// Where nothing can be evaluated in, keeps the policy if its last loss, on what is held out where something is, is the lowest
    /// so far.
    let private keepByLoss
        (folder: RunFolder)
        (algorithm: Algorithm)
        (memory: Memory)
        (progress: Progress)
        : (string * float) list =
        let loss = snd (List.last progress.Losses)

        if -loss > memory.BestValue then
            memory.BestValue <- -loss
            memory.BestIteration <- progress.Iteration + 1
            savePolicy folder $"best_{algorithm.Role}" algorithm memory memory.BestIteration

        []

    /// Evaluates the policy, keeps it if it is the best so far, and gives the metrics of the evaluation.
    let private evaluate
        (folder: RunFolder)
        (plan: Plan)
        (evaluator: Evaluator)
        (display: Display)
        (algorithm: Algorithm)
        (memory: Memory)
        (progress: Progress)
        : (string * float) list =
        let completed = progress.Iteration + 1
        let result = evaluator.Run algorithm.Policy
        let measured = result.Mean plan.Best.Measure
        let value = if plan.Best.Highest then measured else -measured

        let best =
            memory.BestIteration = 0
            || (if plan.Best.Measure = "return" then
                    value > memory.BestReturn
                else
                    value > memory.BestValue)

        if best then
            memory.BestReturn <- result.MeanReturn
            memory.BestValue <- value
            memory.BestIteration <- completed
            algorithm.Policy.Metadata["evaluation_return"] <- string result.MeanReturn
            savePolicy folder $"best_{algorithm.Role}" algorithm memory completed

            for name, critic in algorithm.Critics do
                PolicyFile.Save(folder.Checkpoint $"{name}.safetensors", critic)

            algorithm.Policy.Metadata.Remove "evaluation_return" |> ignore

        let note =
            if not best then
                ""
            elif plan.Best.IsOwn then
                $", the best so far by {plan.Best.Measure} {measured:G4}"
            else
                ", the best so far"

        display.Say $"Evaluation after {completed} iterations: {describe result}{note}"

        evaluationMetrics result
        @ (if plan.Best.IsOwn then
               [ $"evaluation/{plan.Best.Measure}", measured ]
           else
               [])
        @ variantMetrics plan result
        @ seekTarget plan display memory progress.StepsCollected result
        @ algorithm.Reference

    /// One iteration, which the display tells of.
    let internal iterate
        (display: Display)
        (clockAfter: Progress -> Clock)
        (advance: unit -> Progress)
        : Progress * Clock =
        let progress = advance ()
        let clock = clockAfter progress
        List.iter display.Say progress.Events

        for warning in progress.Warnings do
            display.Say $"Warning: {warning}"

        display.Advance progress clock
        progress, clock

    /// Without an evaluator the best policy is that of the lowest loss.
    /// Runs to the end of the plan, to an interruption, or until so many iterations are completed (0: no such stop). The
    /// folder\'s checkpoints then hold best_ROLE (the best of all evaluations), final_ROLE and ROLE_ITERATION, each as safetensors and .pt, and the state to resume from.
    let run
        (folder: RunFolder)
        (resume: bool)
        (plan: Plan)
        (until: int)
        (evaluator: Evaluator option)
        (interruption: Script.Interruption)
        (display: Display)
        (algorithm: Algorithm)
        : Ending =
        let memory = if resume then restore folder plan algorithm else Memory()
        let first = algorithm.Completed()

        use log =
            if resume then
                MetricsLog.Resume(folder.Path, int64 first - 1L)
            else
                MetricsLog.Create folder.Path

        if not resume then
            save folder plan algorithm memory log

        let saved = ref first

        /// What cannot go on leaves the last state as it is, and says which one that is.
        let orKeep (step: unit -> 'Result) =
            try
                step ()
            with :? DistillException as error ->
                let sentence =
                    $"{error.Message} {folder.Path} keeps the state after {saved.Value} iterations."

                raise (DistillException(sentence, error))

        let clockAfter = clock plan.Iterations first memory

        let stop =
            if until = 0 then
                plan.Iterations
            else
                min until plan.Iterations

        while algorithm.Completed() < stop && interruption.ExitCode = 0 do
            let progress, clock =
                orKeep (fun () -> iterate display clockAfter algorithm.Iterate)

            let completed = progress.Iteration + 1
            let last = completed = plan.Iterations
            RunRecord.addWarnings folder.Path progress.Warnings

            let evaluation =
                match evaluator with
                | None -> keepByLoss folder algorithm memory progress
                | Some evaluator when last || completed % plan.EvaluationInterval = 0 ->
                    orKeep (fun () -> evaluate folder plan evaluator display algorithm memory progress)
                | Some _ -> []

            log.Append(
                progress.Iteration,
                iterationMetrics progress clock @ evaluation |> List.map Collections.Generic.KeyValuePair
            )

            memory.Elapsed <- clock.Elapsed.TotalSeconds

            if last || completed % plan.SaveInterval = 0 then
                List.iter display.Say (Display.block progress clock)
                savePolicy folder $"{algorithm.Role}_{completed}" algorithm memory completed
                save folder plan algorithm memory log
                saved.Value <- completed

        if algorithm.Completed() < plan.Iterations then
            if algorithm.Completed() > 0 then
                savePolicy
                    folder
                    $"{algorithm.Role}_{algorithm.Completed()}"
                    algorithm
                    memory
                    (algorithm.Completed())

            save folder plan algorithm memory log
            Ending.Interrupted interruption.ExitCode
        else
            savePolicy folder $"final_{algorithm.Role}" algorithm memory (algorithm.Completed())
            Ending.Finished
