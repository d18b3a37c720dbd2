// Distils the teacher that comes with Distill into a student of 2,068 numbers that flies without rotor speeds.
// Run it:            dotnet fsi build.fsx run experiments/quickstart.fsx
// Change something:  dotnet fsi build.fsx run experiments/quickstart.fsx seed=1 phase1_iterations=20 max_buffer_size=50_000
#load "../Distill.Scripts/load.fsx"

open Distill
open Distill.Networks

distillation {
    name "quickstart"

    // 64 Crazyflies; each episode of 5 seconds either holds a point or follows a random path.
    environment (Quadrotor.mixture { envs = 64 })
    teacher (Teacher.load "assets/teachers/crazyflie.safetensors")

    // Dense 16, GRU 16, output 4: a memory instead of the rotor speeds that only the teacher sees.
    student (Student.gru { hidden = 16 } |> Student.reading "tracking")

    // Two stages: first the teacher drives, then the student. The teacher labels what it sees in both.
    acting (Acting.teacherUntil 15)
    retain (Retain.latest 200_000)
    collect (Collect.stepsPerEnv 500)
    gradientLength 500
    optimizer (AdamConfig(LearningRate = 2e-3))
    iterations 80
    evaluationInterval 5
    saveInterval 10
}
|> Run.distil
