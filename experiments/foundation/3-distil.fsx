// Distils the teachers of a thousand drones into one recurrent student: the privileged teacher of from-nothing.fsx, or a set of
// teachers as 2-teachers.fsx makes it. preset=raptor gives the published way, student.hidden=16 the published size.
// dotnet fsi build.fsx run experiments/foundation/3-distil.fsx [teacher=FILE_OR_SET] [name=value ...]
#load "../../Distill.Scripts/load.fsx"

open Distill

distillation {
    name "foundation"

    environment (
        Quadrotor.mixture { envs = 1024 } |> Quadrotor.flying (Drones.sample { number = 1000; seed = 0 })
    )

    teacher (Teacher.load "logs/foundation/teacher/checkpoints/best_teacher.safetensors")
    preset Preset.foundation
}
|> Run.distil
