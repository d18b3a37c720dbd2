// How large a dataset, and how long a first stage? 3 × 2 variants with 3 seeds each: 18 trials.
// Run it:        dotnet fsi build.fsx sweep experiments/buffer-sweep.fsx
// Widen it:      dotnet fsi build.fsx sweep experiments/buffer-sweep.fsx max_buffer_size=5_000,20_000,80_000,320_000
// On a cluster:  dotnet fsi build.fsx sweep experiments/buffer-sweep.fsx --on slurm
// Read it:       dotnet fsi build.fsx sweep best experiments/buffer-sweep.fsx
#load "../Distill.Scripts/load.fsx"
open Distill

type Parameters = { MaxBufferSize: int; Phase1Iterations: int }

sweep {
    name "buffer-sweep"

    parameters (
        space {
            let! rows = choice [ 5_000; 20_000; 80_000 ]
            and! phase1 = choice [ 5; 20 ]

            return { MaxBufferSize = rows; Phase1Iterations = phase1 }
        }
    )

    experiment (fun point ->
        distillation {
            environment (Quadrotor.mixture { envs = 32 })
            teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
            student (Student.gru { hidden = 16 } |> Student.reading "tracking")
            acting (Acting.teacherUntil point.Phase1Iterations)
            retain (Retain.latest point.MaxBufferSize)
            collect (Collect.stepsPerEnv 100)
            iterations 40
            evaluationInterval 10
            evaluationEpisodes 64
            finalEpisodes 256
            saveInterval 10
        })

    seeds [ 0; 1; 2 ]
}
|> Run.sweep
