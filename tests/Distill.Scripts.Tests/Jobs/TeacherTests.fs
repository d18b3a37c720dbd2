/// Runs whose teacher is no single policy file, and environments from a shared library, by word and by setting.
module Distill.Tests.TeacherTests

open System.IO
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Environments
open Distill.Environments.Manipulation
open Distill.Environments.Native
open Distill.Networks
open Distill.Policies
open Distill.Storage
open Distill.Tests.RunTests
open Distill.Tests.Tools
open Xunit

/// A cart that is to stand still in the middle. An expert pushes against the place or against the velocity, as each episode says.
let private cart: EnvironmentDefinition =
    let expert (state: float[]) =
        if state[2] = 0.0 then -0.5 * state[0] else -state[1]

    let view group components observe =
        { Group = group; Components = components; Observe = observe }

    {
        Name = "cart"
        Envs = 64
        EpisodeLimit = 10
        StepSeconds = 0.1
        StateSize = 3
        Actions = Actions.continuous 1
        Reset =
            fun random state ->
                state[0] <- random.Uniform(-1.0, 1.0)
                state[1] <- random.Uniform(-1.0, 1.0)
                state[2] <- floor (random.Uniform(0.0, 2.0))
        Step =
            fun _ state action ->
                state[1] <- state[1] + 0.25 * max -1.0 (min 1.0 action[0])
                state[0] <- state[0] + 0.25 * state[1]
                { Reward = 1.0 - abs state[0]; Terminated = abs state[0] > 2.0 }
        Views =
            [
                view "teacher" [ "place, m", 1; "velocity, m/s", 1 ] (fun state seen ->
                    Array.blit state 0 seen 0 2)
                view "student" [ "place, m", 1; "velocity, m/s", 1 ] (fun state seen ->
                    Array.blit state 0 seen 0 2)
                view "task" [ ("against velocity", 1) ] (fun state seen -> seen[0] <- state[2])
                view "expert" [ ("force", 1) ] (fun state seen -> seen[0] <- expert state)
            ]
    }

let private experiment (given: TeacherFile) =
    distillation {
        name "cart"
        environment cart
        teacher given
        student (Student.gru { hidden = 3 })
        acting (Acting.linear 2)
        collect (Collect.stepsPerEnv 10)
        iterations 4
        evaluationInterval 2
        evaluationEpisodes 32
        saveInterval 1
        finalEpisodes 40
    }

/// Policies that push against the place, and against the velocity.
let private policies (place: Workplace) =
    [
        for index, against in [ 0, -0.5f; 1, -1f ] do
            let path = place.Path $"expert-{index}.safetensors"

            use policy =
                new Policy(NetworkSpec(2, [| Dense(1, Activation.Identity) |]), "teacher")

            policy.Network.Parameters.Span[index] <- against
            PolicyFile.Save(path, policy)
            path
    ]

/// The students' parameters, and what all policies reach.
let private outcome (result: DistillationResult) =
    use student =
        PolicyFile.Load((RunFolder.Open result.Folder).Checkpoint "final_student.safetensors")

    student.Network.Parameters.Span.ToArray(), [ result.Teacher.Returns; result.FinalStudent.Returns ]

let private distil (place: Workplace) (given: TeacherFile) (settings: string list) =
    let logs = place.Path "logs"
    Run.distilWith ($"logs={logs}" :: settings) (experiment given)

let private computed =
    Teacher.compute "teacher+task" (fun seen action ->
        action[0] <- if seen[2] = 0.0 then -0.5 * seen[0] else -seen[1])

[<Fact>]
let ``the same labels from files, from the environment and from a function make the same student`` () =
    use place = new Workplace()
    let files = policies place
    let chosen = distil place (Teacher.choose "task" files) []
    let expected = outcome chosen
    let joined = String.concat "+" files

    for given, settings in
        [
            Teacher.environment "expert", []
            computed, []
            Teacher.none, [ $"teacher={joined}"; "teacher_index=task" ]
            Teacher.none, [ "teacher=environment:expert"; "threads=1" ]
            // What the command line names comes before what the script has made.
            computed, [ "teacher=environment:expert" ]
        ] do
        Assert.Equal(expected, outcome (distil place given settings))

    let alone, _ = outcome (distil place (Teacher.load files[0]) [])
    Assert.False((alone = fst expected))

    // On paths of their own a run goes on bit for bit.
    for given in [ Teacher.environment "expert"; computed; Teacher.choose "task" files ] do
        let stopped = distil place given [ "until=2" ]
        Assert.True stopped.Interruption.IsSome
        Assert.Equal(expected, outcome (distil place given [ $"resume={stopped.Folder}"; "until=0" ]))

[<Fact>]
let ``teachers of a script's own stay usable, and files say what they are`` () =
    use place = new Workplace()

    use made =
        TeacherPolicies.Of(PolicyFile.Load(List.head (policies place)), (cart :> IEnvironmentConfig).Spec)

    let first = distil place (Teacher.made made) []
    Assert.Equal(outcome first, outcome (distil place (Teacher.made made) []))

    let says (result: DistillationResult) =
        File.ReadAllText(Path.Combine(result.Folder, "params", "agent.yaml"))

    Assert.Contains("teacher_code: set in the script", says first)
    let fromEnvironment = distil place (Teacher.environment "expert") []
    Assert.Contains("teacher: environment:expert", (says fromEnvironment).Replace("\"", ""))

    use student =
        PolicyFile.Load((RunFolder.Open fromEnvironment.Folder).Checkpoint "final_student.safetensors")

    Assert.Equal("environment:expert", student.Metadata["teacher"])

/// An expert of panels, written in a script.
type private Panelwise() =
    interface ITeachers with
        member _.Teach(environment, _) =
            { new ITeacher with
                member _.Outputs = 0
                member _.Forget(_, _) = ()

                member _.Act(panel, step, _, action, _, watch, counted, own) =
                    let seen = own.Panel 2
                    ObservationView(environment.Spec, "teacher").Observe(environment, panel, seen)

                    for lane in 0 .. Panel.Width - 1 do
                        action[0, lane] <- -0.5f * seen[0, lane]

                    not (watch.Catches(panel, step, "expert's action", action.Values, counted))

                member _.Visit _ = ()
                member _.Dispose() = ()
            }

[<Fact>]
let ``an expert of panels in a script labels as a policy does`` () =
    use place = new Workplace()
    let expected = outcome (distil place (Teacher.load (policies place).Head) [])
    Assert.Equal(expected, outcome (distil place (Teacher.made (new Panelwise())) []))

[<Fact>]
let ``teachers that are not there, or are no policy where one is needed, are refused in a sentence`` () =
    use place = new Workplace()

    let refused (work: unit -> unit) =
        (Expect.throws<DistillException> work).Message

    let job (given: TeacherFile) = Distil.job (experiment given)

    Assert.Contains(
        "There is no teacher no.pt",
        refused (fun () -> (job (Teacher.choose "task" (policies place @ [ "no.pt" ]))).Check())
    )

    Assert.Contains(
        "The experiment has no teacher",
        refused (fun () -> distil place Teacher.none [] |> ignore)
    )

    let training = { TrainTeacher.defaults with Environment = cart; FinalEpisodes = 10 }

    for given in [ Teacher.environment "expert"; computed; Teacher.choose "task" (policies place) ] do
        let logs = place.Path "logs"

        Assert.Contains(
            "The teacher is no policy in a file",
            refused (fun () ->
                Run.improveWith
                    [ $"logs={logs}" ]
                    training
                    given
                    (PpoConfig(Iterations = 1, DistillationCoef = 1.0))
                |> ignore)
        )

[<GccFact>]
let ``a shared library is an environment by word and by setting, and a run on it distils`` () =
    use place = new Workplace()
    let library = NativeLibraries.pendulum 30
    let environment = Native.library library { envs = 32 }
    Assert.Equal(NativeConfig(library, Envs = 32), environment)
    Assert.Equal("fast", (Native.options "fast" environment).Options)

    let own =
        experiment (Teacher.compute "teacher" (fun seen action -> action[0] <- -seen[2]))

    let settings = [ "environment=native"; $"library={library}"; "envs=32"; "options=" ]

    Assert.Equal(environment :> IEnvironmentConfig, (Experiment.withSettings settings own).Config.Environment)
    let logs = place.Path "logs"

    let result = Run.distilWith ($"logs={logs}" :: settings) own

    Assert.Equal(30.0, result.Teacher.MeanLength)
    Assert.True(result.Teacher.Measures.ContainsKey "angle")

    Assert.Contains(
        "x is no file",
        (Expect.throws<DistillException>(fun () ->
            Run.distilWith [ $"logs={logs}"; "environment=native"; "library=x is no file" ] own |> ignore))
            .Message
    )

[<GccFact>]
let ``a run on a library that cannot save says so when it goes on`` () =
    use place = new Workplace()

    let library =
        NativeLibraries.compile (NativeLibraries.edited "pendulum.c" [ "    sizeof(world),", "    0," ])

    let own =
        experiment (Teacher.compute "teacher" (fun seen action -> action[0] <- -seen[2]))

    let logs = place.Path "logs"

    let run settings =
        Run.distilWith
            ([ $"logs={logs}"; "environment=native"; $"library={library}"; "envs=32" ] @ settings)
            own

    let stopped = run [ "until=2" ]

    Assert.Contains(
        "The episodes of pendulum begin anew: where they were cannot be saved",
        printed (fun () -> run [ $"resume={stopped.Folder}"; "until=0" ] |> ignore)
    )

    Assert.True(File.Exists(Path.Combine(stopped.Folder, "result.csv")))

[<MujocoFact>]
let ``manipulation is an environment by word and by setting, and its scripted experts are distilled task by task``
    ()
    =
    use place = new Workplace()
    let tasks = [ ManipulationTask.Reach; ManipulationTask.PickPlace ]
    let own = experiment (Teacher.environment "expert")

    let settings =
        [
            "environment=manipulation"
            "tasks=[reach,pick_place]"
            "envs=32"
            "episode_limit=60"
            "expert_noise.deviation=0.3"
            "final_episodes=8"
        ]

    let environment =
        (Experiment.withSettings settings own).Config.Environment :?> ManipulationConfig

    let declared = Manipulation.tasks tasks { envs = 32 }
    Assert.Equal<ManipulationTask list>(tasks, List.ofSeq environment.Tasks)
    Assert.Equal((declared.Envs, 400), (environment.Envs, declared.EpisodeLimit))
    Assert.Equal<ManipulationTask list>(tasks, List.ofSeq declared.Tasks)
    Assert.Equal((60, 0.3), (environment.EpisodeLimit, environment.ExpertNoise.Deviation))

    let result = Run.distilWith ($"""logs={place.Path "logs"}""" :: settings) own

    Assert.True(result.Teacher.Measures.ContainsKey "success_any")
    Assert.True(result.Teacher.MeanReturn > result.Student.MeanReturn)

    let comparison =
        Run.evaluateWith
            [
                "environment=manipulation"
                "tasks=[reach,pick_place]"
                "episode_limit=60"
                "episodes=8"
                $"policy={result.Folder}/checkpoints/final_student.safetensors"
            ]
            Evaluate.defaults

    Assert.Equal<string list>([ "reach"; "pick_place"; "all" ], List.map fst (List.ofSeq comparison.Rows))
    Assert.StartsWith("task", string comparison)
