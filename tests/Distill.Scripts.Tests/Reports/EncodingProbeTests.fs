module Distill.Tests.EncodingProbeTests

open System
open Distill
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open Xunit

/// Points around the corners of a triangle in a space of five.
let private clusters spread =
    let random = Random 3
    let tasks = Array.init 120 (fun i -> i % 3)

    let points =
        tasks
        |> Array.map (fun task ->
            Array.init 5 (fun i -> (if i = task then 4.0 else 0.0) + spread * (random.NextDouble() - 0.5)))

    points, tasks

[<Fact>]
let ``A probe finds what lies apart, and nothing in noise`` () =
    let points, tasks = clusters 1.0

    let accuracy (points: float[][]) =
        EncodingProbe.accuracy points[..79] tasks[..79] points[80..] tasks[80..]

    Assert.Equal(1.0, accuracy points)
    let random = Random 1
    let noise = points |> Array.map (Array.map (fun _ -> random.NextDouble()))
    Assert.InRange(accuracy noise, 0.1, 0.6)

[<Fact>]
let ``The silhouette is that of its definition`` () =
    // Two pairs on a line: inside 1, outside 9.5 and 10.5 on average.
    let points = [| [| 0.0 |]; [| 1.0 |]; [| 10.0 |]; [| 11.0 |] |]
    let expected = (9.5 / 10.5 + 8.5 / 9.5) / 2.0
    Assert.Equal(expected, EncodingProbe.silhouette points [| 0; 0; 1; 1 |], 12)
    let tight, tasks = clusters 0.1
    Assert.True(EncodingProbe.silhouette tight tasks > 0.95)

[<Fact>]
let ``The plane of a picture holds the directions in which points differ most`` () =
    let points, tasks = clusters 0.1
    let plane = EncodingProbe.plane points |> Array.map (fun (x, y) -> [| x; y |])
    Assert.True(EncodingProbe.silhouette plane tasks > 0.95)
    Assert.Equal(0.0, plane |> Array.averageBy (fun point -> point[0]), 9)

[<Fact>]
let ``A trained encoder tells apart what is rewarded, better with more steps seen`` () =
    let steps, count = 20, 90
    let random = Random 4

    let states, rewards =
        Array.zeroCreate<float32>(count * steps * 2), Array.zeroCreate<float32>(count * steps)

    let actions = Array.init (count * steps) (fun _ -> random.NextSingle() - 0.5f)
    let tasks = Array.init count (fun episode -> episode % 3)

    for episode in 0 .. count - 1 do
        let mutable x = random.NextSingle() - 0.5f

        for step in 0 .. steps - 1 do
            let place = episode * steps + step
            states[2 * place] <- x
            states[2 * place + 1] <- 0.1f * x
            x <- 0.5f * x + actions[place]
            rewards[place] <- x + float32 (tasks[episode] - 1)

    let data = Trajectories(steps, states, actions, rewards, tasks)

    let config =
        TrajectoryEncodingConfig(
            Network =
                TransformerConfig(
                    Window = 8,
                    Model = 16,
                    Heads = 4,
                    Layers = 2,
                    FeedForward = 32,
                    Encoding = 4,
                    Dropout = 0.0
                ),
            BatchSize = 64,
            UpdatesPerIteration = 150,
            ValidationBatches = 2,
            ContrastWeight = 1.0,
            Optimizer = AdamConfig(LearningRate = 2e-3, MaxGradNorm = 0)
        )

    use pool = new WorkerPool(2)
    use training = new TrajectoryEncoding(config, data, pool)
    training.Iterate() |> ignore
    training.Iterate() |> ignore

    let separations =
        EncodingProbe.byStepsSeen
            training.Transformer
            data
            training.TrainingEpisodes
            training.ValidationEpisodes
            pool
            [ 1; 8 ]

    let first, last = separations[0], separations[1]
    Assert.True(first.Accuracy < 0.75, $"{separations}")
    Assert.True(last.Accuracy > 0.9, $"{separations}")
    Assert.True(last.Silhouette > first.Silhouette, $"{separations}")
