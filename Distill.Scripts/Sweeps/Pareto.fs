namespace Distill

/// What is worth its price.
module internal Pareto =
    /// Which of the (cost, value) no other dominates: none that costs no more has a higher value, none that costs less the same.
    let front (points: (float * float) list) : bool list =
        let dominates (cost, value) (otherCost, otherValue) =
            cost <= otherCost && value >= otherValue && (cost < otherCost || value > otherValue)

        points |> List.map (fun one -> not (points |> List.exists (fun other -> dominates other one)))
