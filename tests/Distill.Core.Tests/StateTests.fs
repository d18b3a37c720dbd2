/// Damaged and crafted state files: a sentence, never a crash.
module Distill.Tests.StateTests

open System
open System.Buffers.Binary
open System.IO
open System.Security.Cryptography
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.DistillationTestbed
open Xunit

/// A run whose state is saved: how to walk over it, and how to go on.
type private Saved = { Visit: State -> unit; Iterate: unit -> unit; Stop: unit -> unit }

let private ppo pool =
    let config =
        PpoConfig(StepsPerEnv = 3, Actor = dense "student" [ 5 ] true, Critic = dense "teacher" [ 5 ] true)

    let ppo = new Ppo(config, QuadrotorConfig(Envs = 40, EpisodeLimit = 4), pool)
    { Visit = ppo.Visit; Iterate = (fun () -> ppo.Iterate() |> ignore); Stop = ppo.Dispose }

let private distillation
    (student: StudentConfig)
    (sampling: Sampling)
    (retention: Retention)
    (teacher: Policy)
    pool
    =
    let config =
        DistillationConfig(
            Environment = CartPoleConfig(Envs = 33, EpisodeLimit = 6),
            Student = student,
            Acting = LinearBeta 3,
            Sampling = sampling,
            Retention = retention,
            Loss = CrossEntropy(),
            Collection = StepsPerIteration 4,
            NumLearningEpochs = 1
        )

    let distillation = new Distillation(config, teacher, pool)

    {
        Visit = distillation.Visit
        Iterate = (fun () -> distillation.Iterate() |> ignore)
        Stop = distillation.Dispose
    }

let private runs teacher : (WorkerPool -> Saved) list =
    let mlp: StudentConfig = MlpStudent(Hidden = [ 4 ], NormalizeObservations = true)

    [
        ppo
        distillation mlp (LossPrioritized()) (FirstInFirstOut 300L) teacher
        distillation mlp (RecencyWeighted 0.1) (Reservoir 300L) teacher
        distillation (GruStudent(Hidden = 3)) (Permutation()) (NewestRollout()) teacher
    ]

/// Each run with its state after two iterations in a file.
let private withStates (test: WorkerPool -> (WorkerPool -> Saved) -> string -> unit) =
    use pool = new WorkerPool(1)
    use teacher = cartPoleTeacher ()

    for start in runs teacher do
        Storage.inTemporaryFolder (fun folder ->
            let path = Path.Combine(folder, "state.safetensors")
            let run = start pool
            run.Iterate()
            run.Iterate()
            save path run.Visit
            run.Stop()
            test pool start path)

let private refusal (run: Saved) path =
    (Expect.throws<DistillException>(fun () -> load path run.Visit)).Message

[<Fact>]
let ``a flipped bit anywhere in a state file is a sentence, and nothing is overwritten`` () =
    let random = Random 5

    withStates (fun pool start path ->
        let good = File.ReadAllBytes path
        let run = start pool
        let before = bytes run.Visit

        // Some in the header, some in the checksum, the others anywhere.
        for place in
            [
                yield! [ 0..11 ]
                for _ in 1..30 -> random.Next 400
                for _ in 1..100 -> random.Next good.Length
                yield! [ good.Length - 32 .. good.Length - 1 ]
            ] do
            let bad = Array.copy good
            bad[place] <- bad[place] ^^^ (1uy <<< random.Next 8)
            File.WriteAllBytes(path, bad)
            Storage.contains "state.safetensors" (refusal run path)

        for length in [ 0; 7; 100; good.Length - 33; good.Length - 1 ] do
            File.WriteAllBytes(path, good[.. length - 1])
            refusal run path |> ignore

        sameState (bytes run.Visit) before "after refusals"
        File.WriteAllBytes(path, good)
        load path run.Visit
        run.Stop())

/// Where the data of each block lie in a file.
let private blocksOf (file: byte[]) =
    let start = 8 + int (BinaryPrimitives.ReadUInt64LittleEndian file)
    use header = Text.Json.JsonDocument.Parse(ReadOnlyMemory(file, 8, start - 8))

    [|
        for block in header.RootElement.EnumerateObject() do
            let range = block.Value.GetProperty "data_offsets"
            block.Name, start + range[0].GetInt32(), range[1].GetInt32() - range[0].GetInt32()
    |]

/// The checksum as it should be.
let private reseal (file: byte[]) =
    let length = file.Length - SHA256.HashSizeInBytes
    SHA256.HashData(file.AsSpan(0, length)).CopyTo(file, length)

[<Fact>]
let ``negative and absurd counters are refused by name`` () =
    withStates (fun pool start path ->
        let good = File.ReadAllBytes path
        let run = start pool

        let counters =
            [
                "iteration"
                "epoch"
                "steps_collected"
                "steps"
                "clipped_steps"
                "finished"
                "added"
                "capacity"
                "count"
            ]

        let blocks =
            blocksOf good
            |> Array.filter (fun (name, _, _) -> List.contains (Array.last (name.Split '.')) counters)

        Expect.isTrue (blocks.Length >= 6) "counters"

        for name, at, length in blocks do
            for value in [ -1L; Int64.MinValue; Int64.MaxValue ] do
                let bad = Array.copy good

                if length = 4 then
                    let near = Math.Clamp(value, int64 Int32.MinValue, int64 Int32.MaxValue)
                    BinaryPrimitives.WriteInt32LittleEndian(bad.AsSpan at, int32 near)
                else
                    BinaryPrimitives.WriteInt64LittleEndian(bad.AsSpan at, value)

                reseal bad
                File.WriteAllBytes(path, bad)
                let message = refusal run path
                Expect.isTrue (message.Contains name) $"{name} = {value}: {message}"

        run.Stop())

[<Fact>]
let ``a dataset with more room than its run can have, or with segments from nowhere, is refused`` () =
    withStates (fun pool start path ->
        let good = File.ReadAllBytes path
        let run = start pool

        for block, value in
            [
                "dataset.capacity", BitConverter.GetBytes 2_000_000
                "dataset.chunk0.births", BitConverter.GetBytes -1L
                "dataset.chunk0.births", BitConverter.GetBytes(1L <<< 40)
                "dataset.chunk0.valid", [| 2uy |]
            ] do
            for name, at, _ in blocksOf good do
                if name = block then
                    let bad = Array.copy good
                    Array.blit value 0 bad at value.Length
                    reseal bad
                    File.WriteAllBytes(path, bad)
                    let message = refusal run path
                    Expect.isTrue (message.Contains name || message.Contains "2000000 segments") message

        run.Stop())

[<Fact>]
let ``a crafted state is a sentence or goes on`` () =
    let random = Random 6

    let extremes: byte[][] =
        [|
            Array.create 8 0xffuy
            Array.zeroCreate 8
            BitConverter.GetBytes Int64.MaxValue
            BitConverter.GetBytes Int64.MinValue
            BitConverter.GetBytes nan
            Array.concat [ BitConverter.GetBytes nanf; BitConverter.GetBytes infinityf ]
            Array.concat [ BitConverter.GetBytes -3e38f; BitConverter.GetBytes 3e38f ]
            Array.concat [ BitConverter.GetBytes Int32.MinValue; BitConverter.GetBytes Int32.MaxValue ]
        |]

    let mutable refused, continued = 0, 0

    withStates (fun pool start path ->
        let good = File.ReadAllBytes path

        let blocks =
            blocksOf good |> Array.filter (fun (name, _, length) -> length > 0 && name <> "sha256")

        for number in 1..250 do
            let bad = Array.copy good

            for _ in 0 .. random.Next 3 do
                let _, at, length = blocks[random.Next blocks.Length]

                let value =
                    if random.Next 3 = 0 then
                        (let b = Array.zeroCreate 8 in
                         random.NextBytes b
                         b)
                    else
                        extremes[random.Next extremes.Length]

                let place = if random.Next 2 = 0 then 0 else random.Next length
                Array.blit value 0 bad (at + place) (min 8 (length - place))

            reseal bad
            File.WriteAllBytes(path, bad)
            let run = start pool

            try
                try
                    load path run.Visit
                    run.Iterate()
                    run.Iterate()
                    continued <- continued + 1
                with :? DistillException ->
                    refused <- refused + 1
            finally
                run.Stop())

    Expect.isTrue (refused > 100 && continued > 100) $"{refused} refused, {continued} continued"

[<Fact>]
let ``a state with a block too many, or without a checksum, is refused`` () =
    withStates (fun pool start path ->
        let run = start pool

        let more (state: State) =
            run.Visit state
            state.Block("zeal", Span<byte>(Array.create 3 1uy))

        save path more

        refusal run path
        |> Storage.contains
            "has a block 'zeal' that this run does not: it belongs to a run with other settings."

        let without =
            [
                for tensor in SafeTensors.Read(path).Tensors do
                    if tensor.Name <> "sha256" then
                        tensor
            ]

        SafeTensors.Write(path, without)
        refusal run path |> Storage.contains "it has no checksum"
        run.Stop())
