// Distils the teachers of a thousand drones into one recurrent student: the privileged teacher of from-nothing.fsx unless another
// file, or a set of teachers as 2-teachers.fsx makes it, is named. preset=raptor gives the published way.
// dotnet fsi build.fsx run experiments/foundation/3-distil.fsx [teacher=FILE_OR_SET] [name=value ...]
#load "../../Distill.Scripts/load.fsx"

open Distill

distillation {
    name "foundation"

    environment (
        Quadrotor.mixture { envs = 1024 } |> Quadrotor.flying (Drones.sample { number = 1000; seed = 0 })
    )

    teacher (Teacher.load "logs/foundation/teacher/checkpoints/best_teacher.safetensors")
    student (Student.gru { hidden = 16 } |> Student.reading "tracking")
    preset Preset.raptor
    acting (Acting.teacherUntil 2)
    collect (Collect.episodes 1024)
    variantFocus (Schedule.constant 0.5)
    miniBatchSize (Schedule.constant 16.0)
    epochs 4
    iterations 100
    optimizer (AdamConfig(LearningRate = Schedule.exponential 2e-3 1e-4 100))
    evaluationInterval 20
    evaluationEpisodes 2000
    finalEpisodes 10000
}
|> Run.distil
