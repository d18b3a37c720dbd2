// Distils the teacher that comes with Distill into a student of 2,068 numbers that flies without rotor speeds.
// Run it:            dotnet fsi build.fsx run experiments/quickstart.fsx
// Change something:  dotnet fsi build.fsx run experiments/quickstart.fsx seed=1 phase1_iterations=20 student=mlp
#load "../Distill.Scripts/load.fsx"
open Distill

distillation {
    name "quickstart"

    // 100 Crazyflies, each episode either holding a point or following a random path.
    environment (Quadrotor.mixture { envs = 100 })
    teacher (Teacher.load "assets/teachers/crazyflie.safetensors")

    // Dense 16, GRU 16, output 4: a memory instead of the rotor speeds that only the teacher sees.
    student (Student.gru { hidden = 16 })

    // Two stages: first the teacher drives, then the student. The teacher labels what it sees in both.
    acting (Acting.teacherUntil 40)
    retain (Retain.latest 1_000_000)
    collect (Collect.stepsPerEnv 400)
    iterations 100
}
|> Run.distil
