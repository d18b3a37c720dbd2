/// Squashed Gaussians: what the numbers of PyTorch (TorchTests.fs) do not show.
module Distill.Tests.NetworksDistributionTests

open System
open Distill.Compute
open Distill.Networks
open Distill.Tests.NetworksReference
open Xunit

let private width = Panel.Width

let private distributionOf head =
    ActionDistribution.Of head |> Option.ofObj |> Option.get

let private squashed = distributionOf Head.SquashedGaussian

/// The same mean and log_std in all lanes.
let private outputs (mean: float32) (logStd: float32) =
    Array.init (2 * width) (fun i -> if i < width then mean else logStd)

let private logProbability (mean: float32) logStd (actions: float32[]) =
    actions
    |> Array.chunkBySize width
    |> Array.collect (fun actions ->
        let result: float32[] = Array.zeroCreate width
        squashed.LogProbability(panelOf (outputs mean logStd), panelOf actions, result)
        Array.map float result)

[<Fact>]
let ``A draw is the tanh of the Gaussian's, and the best action that of its mean`` () =
    let stream = RandomStream(3UL, "test")

    let y =
        Array.append (Draw.floats (Random 1) (3 * width)) (Draw.floats (Random 2) (3 * width))

    let plain, tanhs =
        Array.zeroCreate<float32>(3 * width), Array.zeroCreate<float32>(3 * width)

    (distributionOf Head.Gaussian).Sample(panelOf y, stream, 64, 7L, panelOf plain)
    squashed.Sample(panelOf y, stream, 64, 7L, panelOf tanhs)
    Expect.closeAll 1e-6 (Seq.map float tanhs) (plain |> Seq.map (float >> tanh)) "draw"
    squashed.Mode(panelOf y, panelOf tanhs)
    Expect.closeAll 1e-6 (Seq.map float tanhs) (Seq.take (3 * width) y |> Seq.map (float >> tanh)) "mode"

[<Fact>]
let ``The density of a squashed Gaussian has an integral of 1, and the entropy is the mean of its logarithm``
    ()
    =
    for mean, logStd in [ 0f, -1f; 0.7f, -0.5f; -1.5f, 0f; 0.3f, 0.7f ] do
        // In u, where the density is smooth: da = (1 - a^2) du.
        let step = 0.002
        let u = Array.init (32 * 500) (fun i -> (float i - 8000.0 + 0.5) * step)

        let u =
            u |> Array.filter (fun u -> abs u < 7.0) |> fun u -> Array.truncate (u.Length / width * width) u

        let p = logProbability mean logStd (Array.map (tanh >> float32) u)
        let share = Array.map2 (fun p u -> exp p * (1.0 - tanh u ** 2.0) * step) p u
        Expect.close 2e-3 (Array.sum share) 1.0 $"integral at {mean}, {logStd}"
        let entropy: float32[] = Array.zeroCreate width
        squashed.Entropy(panelOf (outputs mean logStd), entropy)

        Expect.close
            5e-3
            (float entropy[5])
            (-(Seq.map2 (*) share p |> Seq.sum))
            $"entropy at {mean}, {logStd}"

[<Fact>]
let ``Actions at the ends have a finite density and gradient`` () =
    for logStd in [ -20f; 0f; 2f ] do
        let y = outputs 0.5f logStd

        let action =
            Array.init width (fun l -> [| 1f; -1f; 0.9999999f; 1.0000001f |][l % 4])

        let ones: float32[] = Array.create width 1f

        let result, dy =
            Array.zeroCreate<float32> width, Array.zeroCreate<float32>(2 * width)

        squashed.LogProbability(panelOf y, panelOf action, result)
        squashed.Backward(panelOf y, panelOf action, ones, ones, panelOf dy)

        for value in Seq.append result dy do
            Expect.isTrue (Single.IsFinite value) $"log_std {logStd}: {value}"
