// Which of 200 students of a few seconds' training flies best? The grid trains them all; the search trains few to the end.
// Search:   dotnet fsi build.fsx sweep experiments/search.fsx
// Grid:     dotnet fsi build.fsx sweep experiments/search.fsx --search grid
// Compare:  dotnet fsi build.fsx sweep best experiments/search.fsx
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Networks

type Parameters = { Rate: float; Hidden: int; Phase1: int }

sweep {
    name "search"

    parameters (
        space {
            let! rate = choice [ 2e-4; 5e-4; 1e-3; 2e-3; 4e-3; 8e-3; 1.5e-2; 3e-2; 6e-2; 0.1 ]
            and! hidden = choice [ 4; 8; 16; 32 ]
            and! phase1 = choice [ 0; 2; 4; 8; 12 ]
            return { Rate = rate; Hidden = hidden; Phase1 = phase1 }
        }
    )

    experiment (fun point ->
        distillation {
            environment (Quadrotor.pointControl { envs = 32 })
            teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
            student (Student.mlp { hidden = [ point.Hidden ] } |> Student.reading "tracking")
            acting (Acting.teacherUntil point.Phase1)
            collect (Collect.stepsPerEnv 25)
            optimizer (AdamConfig(LearningRate = point.Rate))
            iterations 16
            evaluationInterval 1
            evaluationEpisodes 32
            finalEpisodes 64
        })

    seeds [ 0; 1; 2 ]
    search (Search.Asha { Sampler = Search.Tpe 60; Eta = 4; Min = 1; Max = 0 })
}
|> Run.sweep
