namespace Distill

open System
open Distill.Algorithms
open Distill.Compute
open Distill.Datasets
open Distill.Networks
open MathNet.Numerics.LinearAlgebra

/// How well tasks are told apart once so many steps of an episode are seen.
type TaskSeparation =
    {
        /// Steps seen, the present one included.
        Seen: int

        /// Share of held-out episodes whose task a linear probe finds.
        Accuracy: float

        /// Mean silhouette of the held-out encodings (Rousseeuw 1987), by task: 1 for tight clusters far apart, 0 for none.
        Silhouette: float
    }

/// What encodings know of the task, which nobody told the encoder.
module EncodingProbe =
    /// Multinomial logistic regression by gradient descent on standardized features; the bias is a feature.
    let private logistic (features: Matrix<float>) (classes: int[]) (count: int) =
        let target =
            Matrix.Build.Dense(
                classes.Length,
                count,
                fun row task -> if classes[row] = task then 1.0 else 0.0
            )

        let softmax (scores: Matrix<float>) =
            for row in 0 .. scores.RowCount - 1 do
                let own = scores.Row row
                let weights = (own - own.Maximum()).PointwiseExp()
                scores.SetRow(row, weights / weights.Sum())

            scores

        let mutable weights = Matrix.Build.Dense(features.ColumnCount, count)

        for _ in 1..400 do
            let error = softmax (features * weights) - target

            weights <-
                weights
                - 2.0 * (features.TransposeThisAndMultiply error / float classes.Length + 1e-5 * weights)

        weights

    /// The share of held-out rows whose class a linear probe, fitted to the other rows, finds.
    let accuracy (training: float[][]) (classes: int[]) (heldOut: float[][]) (heldOutClasses: int[]) : float =
        let kinds = Array.distinct classes

        let columns =
            Matrix.Build.DenseOfRowArrays(training).EnumerateColumns() |> Seq.toArray

        let mean = columns |> Array.map (fun column -> column.Sum() / float column.Count)

        let deviation =
            columns |> Array.mapi (fun i column -> (column - mean[i]).L2Norm() / sqrt (float column.Count))

        let standardized (rows: float[][]) =
            Matrix.Build.Dense(
                rows.Length,
                mean.Length + 1,
                fun row i ->
                    if i = mean.Length then 1.0
                    elif deviation[i] = 0.0 then 0.0
                    else (rows[row][i] - mean[i]) / deviation[i]
            )

        let numbered = classes |> Array.map (fun task -> Array.IndexOf(kinds, task))

        let scores =
            standardized heldOut * logistic (standardized training) numbered kinds.Length

        heldOutClasses
        |> Array.mapi (fun row task ->
            if kinds[scores.Row(row).MaximumIndex()] = task then
                1.0
            else
                0.0)
        |> Array.average

    /// The mean silhouette of points in classes, by Euclidean distances.
    let silhouette (points: float[][]) (classes: int[]) : float =
        let distance (a: float[]) (b: float[]) =
            Array.fold2 (fun sum x y -> sum + (x - y) * (x - y)) 0.0 a b |> sqrt

        let groups = points |> Array.indexed |> Array.groupBy (fun (i, _) -> classes[i])

        points
        |> Array.mapi (fun i point ->
            let mean members =
                members |> Array.averageBy (fun (_, other) -> distance point other)

            let own = groups |> Array.find (fun (task, _) -> task = classes[i]) |> snd
            let others = groups |> Array.filter (fun (task, _) -> task <> classes[i])

            if own.Length < 2 || others.Length = 0 then
                0.0
            else
                // The point itself is no other.
                let inside = mean own * float own.Length / float (own.Length - 1)
                let outside = others |> Array.map (snd >> mean) |> Array.min

                if max inside outside = 0.0 then
                    0.0
                else
                    (outside - inside) / max inside outside)
        |> Array.average

    /// The first two principal components of points, for a picture.
    let plane (points: float[][]) : (float * float)[] =
        let rows = Matrix.Build.DenseOfRowArrays points
        let mean = rows.ColumnSums() / float rows.RowCount

        let centred =
            Matrix.Build.Dense(rows.RowCount, rows.ColumnCount, fun row i -> rows[row, i] - mean[i])

        let axes = centred.Svd().VT
        let projected = centred * axes.Transpose()

        [| for row in projected.EnumerateRows() -> row[0], (if row.Count > 1 then row[1] else 0.0) |]

    /// The encodings of episodes after so many steps.
    let encodings
        (network: TrajectoryTransformer)
        (data: Trajectories)
        (pool: WorkerPool)
        (seen: int)
        (episodes: int[])
        : float[][] =
        let windows = episodes |> Array.map (fun episode -> struct (episode, seen - 1))

        Encodings.Of(network, data, windows, pool)
        |> Array.map float
        |> Array.chunkBySize network.Config.Encoding

    /// How tasks come apart while steps are seen: a probe is fitted to the episodes that an encoder was trained on, for each number
    /// of steps by itself, and measured on those held out.
    let byStepsSeen
        (network: TrajectoryTransformer)
        (data: Trajectories)
        (training: int[])
        (heldOut: int[])
        (pool: WorkerPool)
        (seen: int list)
        : TaskSeparation list =
        let tasksOf = Array.map (fun episode -> data.Tasks[episode])

        [
            for steps in seen do
                let encode = encodings network data pool steps
                let points, tasks = encode heldOut, tasksOf heldOut

                {
                    Seen = steps
                    Accuracy = accuracy (encode training) (tasksOf training) points tasks
                    Silhouette = silhouette points tasks
                }
        ]
