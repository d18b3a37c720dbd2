/// Evaluations on a GPU against the same ones on the processor.
module Distill.Tests.CudaEvaluationTests

open System
open Distill
open Distill.Compute
open Distill.Environments.Quadrotor
open Distill.Evaluation
open Distill.Networks
open Distill.Policies
open Distill.Tests.CudaDriver
open Distill.Tests.DistillationTestbed

/// Some episodes end early, at different times, and some at the limit; the last panel is not full.
let private environment =
    QuadrotorConfig(EpisodeLimit = 70, Sampled = DroneSampling(Number = 3))

let private episodes = 45

let private evaluator (config: QuadrotorConfig) pool device =
    new Evaluator(config, episodes, 3UL, pool, device)

let private same (actual: EvaluationResult) (expected: EvaluationResult) what =
    Paths.sameBits actual.Returns expected.Returns $"{what}: returns"
    Expect.equal actual.Lengths expected.Lengths $"{what}: lengths"
    Expect.equal actual.Terminated expected.Terminated $"{what}: terminated"
    Expect.equal (List.ofSeq actual.Variants) (List.ofSeq expected.Variants) $"{what}: variants"
    Expect.equal (List.ofSeq actual.Measures.Keys) (List.ofSeq expected.Measures.Keys) $"{what}: measures"

    for name in expected.Measures.Keys do
        Paths.sameBits actual.Measures[name] expected.Measures[name] $"{what}: {name}"

let private mlp head =
    randomPolicy 3 0.3f (NetworkSpec.Mlp(26, [ 12 ], 4, Activation.Tanh, head)) "teacher" true

[<CudaFact>]
let ``an evaluation on a GPU is that of the processor, to the last bit, again and again`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 2
    use onGpu = evaluator environment pool ComputeDevice.Cuda
    use onProcessor = evaluator environment pool ComputeDevice.Cpu
    use plain = mlp Head.Plain
    use gaussian = mlp Head.Gaussian
    use remembering = raptorTeacher ()

    for what, policy in [ "plain", plain; "memory", remembering; "gaussian", gaussian; "plain again", plain ] do
        let before = onGpu.Launches
        let expected = onProcessor.Run policy
        same (onGpu.Run policy) expected what
        Expect.isTrue (onGpu.Launches > before) $"{what}: computed on the GPU"
        Expect.isTrue ((Array.distinct expected.Lengths).Length > 3) $"{what}: episodes differ"

    Expect.equal onProcessor.Launches 0L "the processor's"

[<CudaFact>]
let ``teachers of several drones are evaluated on a GPU, too`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 2
    use onGpu = evaluator environment pool ComputeDevice.Cuda
    use onProcessor = evaluator environment pool ComputeDevice.Cpu
    let plain, other = mlp Head.Plain, mlp Head.Plain
    other.Network.Parameters.Span[40] <- 0.7f
    use several = new TeacherPolicies([| plain; other |], [| 0; 1; 0 |])
    let expected = onProcessor.Run several
    same (onGpu.Run several) expected "several"
    Expect.isTrue (onGpu.Launches > 0L) "computed on the GPU"

    use one =
        TeacherPolicies.Of(raptorTeacher (), (environment :> Environments.IEnvironmentConfig).Spec)

    same (onGpu.Run one) (onProcessor.Run one) "one that remembers"
    other.Network.Parameters.Span[3] <- nanf

    let sentence (evaluator: Evaluator) =
        (Expect.throws<DistillException>(fun () -> evaluator.Run several |> ignore)).Message

    let said = sentence onProcessor
    said |> Storage.contains "the teacher's action of environment 1 is NaN at step 0"
    Expect.equal (sentence onGpu) said "sentence"

[<CudaFact>]
let ``an evaluation on a GPU ends when its last episode has`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1
    // All crash within 32 steps.
    let config = QuadrotorConfig(EpisodeLimit = 5000)
    use falling = mlp Head.Plain
    fill falling.Network.Parameters (fun _ -> -1f)
    use onGpu = evaluator config pool ComputeDevice.Auto
    use onProcessor = evaluator config pool ComputeDevice.Cpu
    let expected = onProcessor.Run falling
    same (onGpu.Run falling) expected "falling"
    // It observes, normalizes, computes two layers, copies, flies and notes, and looks every 32 steps.
    let looks = (Array.max expected.Lengths + 31) / 32
    Expect.isTrue (onGpu.Launches <= int64 (7 * 32 * looks + 1)) $"{onGpu.Launches} kernels for {looks} looks"

[<CudaFact>]
let ``what cannot be evaluated on a GPU is evaluated on the processor`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1
    use onGpu = evaluator environment pool ComputeDevice.Cuda
    use onProcessor = evaluator environment pool ComputeDevice.Cpu
    use squashed = mlp Head.SquashedGaussian
    same (onGpu.Run squashed) (onProcessor.Run squashed) "another head"
    use plain = mlp Head.Plain

    use record =
        new EpisodeRecord((environment :> Environments.IEnvironmentConfig).Spec, episodes)

    same (onGpu.Run(plain, record)) (onProcessor.Run plain) "recorded"
    Expect.equal onGpu.Launches 0L "kernels"

    let little = 10_000L

    use crowded =
        if real.Value then
            evaluator environment pool ComputeDevice.Cpu
        else
            emulating "memory" little (8L <<< 30) (fun () -> evaluator environment pool ComputeDevice.Cuda)

    same (crowded.Run plain) (onProcessor.Run plain) "a GPU that has no memory left"
    Expect.equal crowded.Launches 0L "kernels"

[<CudaFact>]
let ``what is not finite in an evaluation is said as on the processor`` () =
    (device ()).Dispose()
    use pool = new WorkerPool 1
    use onGpu = evaluator environment pool ComputeDevice.Cuda
    use onProcessor = evaluator environment pool ComputeDevice.Cpu

    let sentence (evaluator: Evaluator) (policy: Policy) =
        (Expect.throws<DistillException>(fun () -> evaluator.Run policy |> ignore)).Message

    use broken = mlp Head.Plain
    broken.Network.Parameters.Span[3] <- nanf
    let expected = sentence onProcessor broken
    expected |> Storage.contains "Evaluation: the policy's action of environment 0 is NaN at step 0"
    Expect.equal (sentence onGpu broken) expected "an action"

    for factor in [ 1e38f; 3e38f ] do
        use huge =
            new Policy(NetworkSpec.Mlp(26, [], 4, Activation.Relu, Head.Plain), "teacher")

        huge.Network.Parameters.Span[12] <- factor
        Expect.equal (sentence onGpu huge) (sentence onProcessor huge) $"{factor}"
