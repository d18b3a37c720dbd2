// Which of 200 short distillations flies best? A search trains few of them to the end.
// Search it:      dotnet fsi build.fsx sweep experiments/search.fsx
// Train them all: dotnet fsi build.fsx sweep experiments/search.fsx --search grid
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Networks

sweep {
    name "search"

    parameters (
        space {
            let! rate = choice [ 2e-4; 5e-4; 1e-3; 2e-3; 4e-3; 8e-3; 1.5e-2; 3e-2; 6e-2; 0.1 ]
            and! hidden = choice [ 4; 8; 16; 32 ]
            and! phase1 = choice [ 0; 2; 4; 8; 12 ]
            return rate, hidden, phase1
        }
    )

    experiment (fun (rate, hidden, phase1) ->
        distillation {
            environment (Quadrotor.pointControl { envs = 32 })
            teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
            student (Student.mlp { hidden = [ hidden ] } |> Student.reading "tracking")
            acting (Acting.teacherUntil phase1)
            collect (Collect.stepsPerEnv 25)
            optimizer (AdamConfig(LearningRate = rate))
            iterations 32
            evaluationInterval 2
            evaluationEpisodes 32
            finalEpisodes 64
        })

    seeds [ 0; 1; 2 ]
    search (Search.Asha { Sampler = Search.Tpe 60; Eta = 4; Min = 8; Max = 0 })
}
|> Run.sweep
