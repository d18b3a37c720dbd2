/// Sampled drones in scripts: as settings, as files, and as a table.
module Distill.Tests.DronesTests

open System.IO
open Distill
open Distill.Environments.Quadrotor
open Xunit

let private flying (settings: string list) =
    let experiment =
        distillation {
            name "drones"
            environment (Quadrotor.mixture { envs = 64 })
            teacher (Teacher.load "teacher.safetensors")
            student (Student.gru { hidden = 8 })
        }

    Experiment.withSettings settings experiment

let private quadrotors (experiment: Experiment) =
    experiment.Config.Environment :?> QuadrotorConfig

[<Fact>]
let ``the sampling is a setting, and is written down and read back`` () =
    let named = quadrotors (flying [])
    Assert.Null named.Sampled
    Assert.Equal("crazyflie", (Seq.exactlyOne (named.LoadDrones())).Name)

    let settings =
        [ "sampled.number=30"; "sampled.seed=4"; "procedure=paper"; "ranges.mass_max=0.5" ]

    let experiment = flying settings

    let expected =
        DroneSampling(Number = 30, Seed = 4UL, Procedure = SamplingProcedure.Paper)

    let sampled = nonNull (quadrotors experiment).Sampled

    Assert.Equal(
        expected
        |> Settings.set <@ _.Ranges @> (DomainRandomization.Published |> Settings.set <@ _.MassMax @> 0.5),
        sampled
    )

    Assert.Equal(30, (quadrotors experiment).LoadDrones().Count)

    let written =
        [ for name, value in Experiment.settings experiment -> $"{name}={value}" ]

    let again = flying (written |> List.filter (fun text -> text.Contains "sampled."))
    Assert.Equal(sampled, nonNull (quadrotors again).Sampled)

[<Fact>]
let ``a task flies what Drones.sample says`` () =
    let drones = Drones.sample { number = 5; seed = 2 }
    let config = Quadrotor.langevin { envs = 64 } |> Quadrotor.flying drones
    Assert.Equal(DroneSampling(Number = 5, Seed = 2UL), nonNull config.Sampled)
    Assert.Equal(QuadrotorTask.Langevin, config.Task)

    let message =
        (Expect.throws<DistillException>(fun () -> Drones.sample { number = 5; seed = -1 } |> ignore)).Message

    Assert.Equal("The seed of sampled drones is -1; it must not be negative.", message)

[<Fact>]
let ``drones are written as files with a table beside them`` () =
    let folder = Directory.CreateTempSubdirectory("distill-drones-").FullName

    try
        let drones = Drones.sample { number = 6; seed = 2 }
        drones |> Drones.write folder

        Assert.Equal<DroneFigures list>(
            Drones.figures drones,
            [ for d in ParameterFile.ReadFolder folder -> DroneFigures.Of d ]
        )

        let head, rows =
            (Csv.read (File.ReadAllText(Path.Combine(folder, "drones.csv")))).Value

        Assert.Equal<string list>(
            [
                "name"
                "mass"
                "arm_length"
                "mass_to_size"
                "thrust_to_weight"
                "torque_to_inertia"
                "inertia"
                "rotor_torque_constant"
                "time_constant_rising"
                "time_constant_falling"
                "disturbance_force_std"
                "disturbance_to_weight"
            ],
            head
        )

        for row, figures in List.zip rows (Drones.figures drones) do
            Assert.Equal(figures.Name, row["name"])
            Assert.Equal(figures.Mass, float row["mass"])
            Assert.Equal(figures.DisturbanceToWeight, float row["disturbance_to_weight"])
    finally
        Directory.Delete(folder, true)
