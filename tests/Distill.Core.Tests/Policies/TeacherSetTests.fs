/// Sets of teachers: the table, what it refuses, and who labels what.
module Distill.Tests.TeacherSetTests

open System
open System.IO
open Xunit
open Distill
open Distill.Compute
open Distill.Environments
open Distill.Environments.CartPole
open Distill.Environments.Quadrotor
open Distill.Networks
open Distill.Policies
open Distill.Tests.DistillationTestbed
open Distill.Tests.Storage

let private row (variant: string) (policy: string) (mean: float) =
    TeacherRow(
        Variant = variant,
        Policy = policy,
        Return = mean,
        Length = 498.25,
        ShareTerminated = 0.004,
        Episodes = 100L,
        CoreSeconds = 12.5,
        Seed = 18446744073709551615UL,
        Recipe = "ppo, \"short\""
    )

let private rows =
    [
        row "00000" "policies/a.safetensors" 600.1
        row "b,c" "policies/b.safetensors" 650.0
        row "d" "policies/a.safetensors" 600.1
    ]

let private head =
    "variant,policy,return,length,share_terminated,episodes,core_seconds,seed,recipe"

let private table (folder: string) (text: string) =
    File.WriteAllText(Path.Combine(folder, "teachers.csv"), text)

[<Fact>]
let ``a set is read as it was written`` () =
    inTemporaryFolder (fun folder ->
        TeacherSet(folder, List.toArray rows).Write()
        let read = TeacherSet.Read folder
        Expect.equal (List.ofSeq read.Teachers) rows "rows"
        Expect.isTrue (TeacherSet.IsAt folder) "is there"
        Expect.equal [ for teacher in read.Ranked -> teacher.Variant ] [ "b,c"; "00000"; "d" ] "ranked"
        Expect.equal [ for teacher in (read.Top 2).Teachers -> teacher.Variant ] [ "b,c"; "00000" ] "top"

        Expect.equal
            [ for teacher in (read.AtLeast 600.1).Teachers -> teacher.Variant ]
            [ "00000"; "b,c"; "d" ]
            "gate"

        File.ReadAllLines(Path.Combine(folder, "teachers.csv"))[0]
        |> (fun line -> Expect.equal line head "columns"))

[<Fact>]
let ``a measure beside the return is the last column, and is read as it was written`` () =
    let measured (row: TeacherRow) (value: Nullable<float>) =
        TeacherRow(
            Variant = row.Variant,
            Policy = row.Policy,
            Return = row.Return,
            Length = row.Length,
            ShareTerminated = row.ShareTerminated,
            Episodes = row.Episodes,
            CoreSeconds = row.CoreSeconds,
            Seed = row.Seed,
            Recipe = row.Recipe,
            Measure = value
        )

    let rows =
        [ for i, row in List.indexed rows -> measured row (Nullable(0.25 * float i)) ]

    inTemporaryFolder (fun folder ->
        TeacherSet(folder, List.toArray rows, "success").Write()
        let read = TeacherSet.Read folder
        Expect.equal read.Measure "success" "measure"
        Expect.equal (List.ofSeq read.Teachers) rows "rows"
        Expect.equal (read.Top 1).Measure "success" "measure of the best"

        let line = File.ReadAllLines(Path.Combine(folder, "teachers.csv"))[0]
        Expect.equal line (head + ",success") "columns"

        for value in [ Nullable(); Nullable nan ] do
            (Expect.throws<DistillException>(fun () ->
                TeacherSet(folder, [| measured rows[0] value |], "success") |> ignore))
                .Message
            |> contains "a teacher of '00000' whose success is")

[<Fact>]
let ``what is no table of teachers is refused by one sentence`` () =
    let good = "x,policies/x.safetensors,1,1,0,1,1,1,ppo\n"

    for text, part in
        [
            "", "teachers.csv"
            "a,b\n1,2\n", "its columns must be variant,policy"
            $"{head}\n", "has 0 teachers"
            $"{head}\n{good}{good}", "has the variant 'x' twice"
            $"{head}\nx,policies/x.safetensors,nan,1,0,1,1,1,ppo\n", "'nan' for return"
            $"{head}\nx,policies/x.safetensors,1e999,1,0,1,1,1,ppo\n", "'1e999' for return"
            $"{head}\nx,policies/x.safetensors,1,1,1.5,1,1,1,ppo\n", "share_terminated is 1.5"
            $"{head}\nx,policies/x.safetensors,1,1,0,1.5,1,1,ppo\n", "'1.5' for episodes"
            $"{head}\nx,policies/x.safetensors,1,1,0,1,1,-1,ppo\n", "'-1' for seed"
            $"{head}\nx,../x.safetensors,1,1,0,1,1,1,ppo\n", "a path within the folder"
            $"{head}\nx,/x.safetensors,1,1,0,1,1,1,ppo\n", "a path within the folder"
            $"{head}\nx,,1,1,0,1,1,1,ppo\n", "a path within the folder"
            $"{head}\n,policies/x.safetensors,1,1,0,1,1,1,ppo\n", "variant is empty"
            $"{head}\nx,y\n", "row 1 has 2 fields"
            $"{head},a,b\n", "and at most one measure"
            $"{head},success\n{good}", "row 1 has 9 fields"
            $"{head},success\nx,policies/x.safetensors,1,1,0,1,1,1,ppo,inf\n", "'inf' for its measure"
        ] do
        inTemporaryFolder (fun folder ->
            table folder text

            let message =
                (Expect.throws<DistillException>(fun () -> TeacherSet.Read folder |> ignore)).Message

            contains part message

            Expect.isTrue
                (message.EndsWith '.' && not (message.Contains '\n'))
                $"not one sentence: {message}")

    inTemporaryFolder (fun folder ->
        (Expect.throws<DistillException>(fun () -> TeacherSet.Read folder |> ignore)).Message
        |> contains "There is no table of teachers"

        let set = TeacherSet(folder, List.toArray rows)

        (Expect.throws<DistillException>(fun () -> set.Top 4 |> ignore)).Message |> contains "has 3"

        (Expect.throws<DistillException>(fun () -> set.AtLeast 651.0 |> ignore)).Message
        |> contains "the best has 650")

[<Fact>]
let ``a damaged table is read or refused, nothing else`` () =
    inTemporaryFolder (fun folder ->
        TeacherSet(folder, List.toArray rows).Write()
        let path = Path.Combine(folder, "teachers.csv")

        let read (copy: string) =
            inTemporaryFolder (fun other ->
                File.Copy(copy, Path.Combine(other, "teachers.csv"))
                TeacherSet.Read other |> ignore)

        survivesFlips 500 read path
        let bytes = File.ReadAllBytes path

        for length in 0 .. bytes.Length - 1 do
            inTemporaryFolder (fun other ->
                let copy = Path.Combine(other, "teachers.csv")
                File.WriteAllBytes(copy, bytes[.. length - 1])
                survives (fun _ -> TeacherSet.Read other |> ignore) copy $"{length} bytes" |> ignore))

let private drones: IEnvironmentConfig =
    QuadrotorConfig(Drones = [| "crazyflie"; "x500_real"; "race" |])

[<Fact>]
let ``every variant needs its teacher, and each file is read once`` () =
    inTemporaryFolder (fun folder ->
        Directory.CreateDirectory(Path.Combine(folder, "policies")) |> ignore

        for name in [ "a"; "b" ] do
            use policy =
                randomPolicy
                    (int name[0])
                    0.3f
                    (NetworkSpec.Mlp(26, [ 8 ], 4, Activation.Tanh))
                    "teacher"
                    false

            PolicyFile.Save(Path.Combine(folder, $"policies/{name}.safetensors"), policy)

        let set (names: (string * string) list) =
            TeacherSet(
                folder,
                [| for variant, file in names -> row variant $"policies/{file}.safetensors" 1.0 |]
            )

        let refused (names: (string * string) list) (environment: IEnvironmentConfig) =
            (Expect.throws<DistillException>(fun () -> ((set names).Load environment.Spec).Dispose()))
                .Message

        use teachers =
            (set [ "race", "a"; "crazyflie", "b"; "x500_real", "a"; "other", "b" ]).Load drones.Spec

        Expect.equal (List.ofSeq teachers.OfVariant) [ 0; 1; 1 ] "who teaches what"
        Expect.equal teachers.Policies.Count 2 "files"

        refused [ "race", "a"; "crazyflie", "b" ] drones
        |> contains "has none for 'x500_real', one of the 3 variants"

        refused [ "race", "a"; "crazyflie", "b"; "x500_real", "c" ] drones |> contains "c.safetensors"

        refused [ "x", "a" ] (CartPoleConfig()) |> contains "are all alike"

        use small =
            randomPolicy 1 0.3f (NetworkSpec.Mlp(25, [ 8 ], 4, Activation.Tanh)) "teacher" false

        PolicyFile.Save(Path.Combine(folder, "policies/small.safetensors"), small)

        refused [ "race", "a"; "crazyflie", "small"; "x500_real", "a" ] drones
        |> contains "The teacher of 'crazyflie' reads 25 numbers")

[<Fact>]
let ``an evaluation knows what each episode was flown on`` () =
    use pool = new WorkerPool(2)
    use policy = raptorTeacher ()

    for assignment, expected in
        [
            DroneAssignment.InTurn, [ for i in 0..39 -> i % 3 ]
            DroneAssignment.InPanels, [ for i in 0..39 -> i / 32 ]
            DroneAssignment.InBlocks, [ for i in 0..39 -> i * 3 / 40 ]
        ] do
        let config =
            QuadrotorConfig(
                Drones = [| "crazyflie"; "x500_real"; "race" |],
                EpisodeLimit = 5,
                DroneAssignment = assignment
            )

        use evaluator = new Evaluation.Evaluator(config, 40, 1UL, pool)
        let result = evaluator.Run policy
        Expect.equal (List.ofSeq result.Variants) expected $"{assignment}"
        let part = result.Where((fun i -> i % 2 = 0), "the even")
        Expect.equal (List.ofSeq part.Variants) [ for i in 0..2..38 -> expected[i] ] $"{assignment}: some"

        if assignment <> DroneAssignment.InPanels then
            let each = result.ByVariant (config :> IEnvironmentConfig).Spec.Variants
            Expect.equal (each |> Seq.sumBy _.Episodes) 40 "episodes"

            Expect.equal
                each[1].Returns[0]
                result.Returns[List.findIndex ((=) 1) expected]
                "the first of the second"
