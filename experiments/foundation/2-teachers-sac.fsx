// Makes teachers for sampled drones the published way, by SAC, many side by side, each on one core. It goes on where it was stopped.
// dotnet fsi build.fsx run experiments/foundation/2-teachers-sac.fsx [number=N] [iterations=THOUSANDS_OF_STEPS]
#load "../../Distill.Scripts/load.fsx"

open Distill
open Distill.Algorithms
open Distill.Environments.Quadrotor

// Each drone starts within ten arms of the origin, as its own parameters say.
let training =
    { TrainTeacher.single with
        Environment =
            QuadrotorConfig(Envs = 1, InitialStates = null)
            |> Quadrotor.flying (Drones.sample { number = 8; seed = 0 })
        SaveInterval = 20
        EvaluationInterval = 20
        EvaluationEpisodes = 100
        FinalEpisodes = 1000
    }

Run.trainTeachers
    { TrainTeachers.defaults with
        Set = "logs/foundation/teachers-sac"
        MinReturn = System.Nullable 300.0
    }
    training
    (Reinforcement.sac Teacher.none SacConfig.Raptor)
