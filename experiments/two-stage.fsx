// Does it help that the teacher drives first, and for how long? The same budget with other lengths of phase 1, with the
// student driving from the start, and with the teacher driving throughout; three seeds each, compared in closed loop.
// dotnet fsi build.fsx run experiments/two-stage.fsx phase1_iterations=200 max_buffer_size=500_000
#load "../Distill.Scripts/load.fsx"
open Distill

distillation {
    name "two-stage"
    environment (Quadrotor.mixture { envs = 64 })
    teacher (Teacher.load "assets/teachers/crazyflie.safetensors")
    student (Student.gru { hidden = 16 } |> Student.reading "tracking")
    acting (Acting.teacherUntil 10)
    retain (Retain.latest 200_000)
    collect (Collect.stepsPerEnv 500)
    gradientLength 500
    iterations 25
}
|> Run.compare (fun phase1 ->
    [
        "student only", Acting.studentAlways
        "phase 1 half as long", Acting.teacherUntil (phase1 / 2)
        "two stages", Acting.teacherUntil phase1
        "phase 1 half longer", Acting.teacherUntil (phase1 * 3 / 2)
        "teacher only", Acting.teacherAlways
    ])
