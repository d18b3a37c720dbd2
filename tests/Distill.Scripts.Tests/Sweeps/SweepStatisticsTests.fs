/// Statistics over seeds, against numbers from numpy and scipy and by hand.
module Distill.Tests.SweepStatisticsTests

open System
open Distill
open Xunit

let private five = [ 3.1; 4.7; 2.2; 5.9; 4.0 ]

let private expectInterval
    (tolerance: float)
    (estimate: float, low: float, high: float)
    (interval: Interval)
    =
    Expect.closeAll
        tolerance
        [ interval.Estimate; interval.Low; interval.High ]
        [ estimate; low; high ]
        "interval"

[<Fact>]
let ``the mean has Student's interval`` () =
    // scipy.stats.t.interval(0.95, 4, mean, sem)
    Statistics.mean95 five |> expectInterval 1e-9 (3.98, 2.207853572699243, 5.752146427300756)
    Expect.close 1e-12 (Statistics.deviation five) 1.4272350892547452 "standard deviation"
    let one = Statistics.mean95 [ 3.0 ]
    Assert.Equal(3.0, one.Estimate)
    Assert.True(Double.IsNaN one.Low && Double.IsNaN one.High)

[<Fact>]
let ``quantiles and interquartile means are numpy's and scipy's`` () =
    // numpy.percentile(x, [2.5, 30, 97.5])
    Expect.closeAll
        1e-12
        ([ 0.025; 0.3; 0.975 ] |> List.map (fun share -> Statistics.quantile share five))
        [ 2.29; 3.28; 5.78 ]
        "quantiles"

    // scipy.stats.trim_mean(x, 0.25)
    Expect.close 1e-12 (Statistics.interquartileMean five) 3.9333333333333336 "five values"

    Expect.close
        1e-12
        (Statistics.interquartileMean [ 1.0; 2.0; 3.0; 4.0; 5.0; 6.0; 7.0; 80.0; 9.0; 10.0 ])
        5.666666666666667
        "ten values, one far off"

    Assert.True(Double.IsNaN(Statistics.interquartileMean [ 1.0; 2.0; 3.0; 4.0 ]))

[<Fact>]
let ``the stratified bootstrap resamples within strata`` () =
    // The percentiles of 5,000 resamples of each stratum by numpy, the same for five of its seeds.
    let strata =
        [ [ 1.0; 2.0; 3.0; 4.0; 5.0; 6.0; 7.0; 8.0 ]; [ 10.0; 12.0; 11.0; 15.0; 9.0; 14.0; 13.0; 30.0 ] ]

    let interval = Statistics.stratifiedBootstrap Statistics.interquartileMean strata
    interval |> expectInterval 1e-9 (8.5, 7.25, 9.75)
    Assert.Equal(interval, Statistics.stratifiedBootstrap Statistics.interquartileMean strata)
    // Strata without spread inside have none, however far apart they are.
    Statistics.stratifiedBootstrap Statistics.mean [ List.replicate 5 1.0; List.replicate 5 9.0 ]
    |> expectInterval 0.0 (5.0, 5.0, 5.0)

[<Fact>]
let ``fewer than five runs of a stratum have no bootstrap interval`` () =
    let bounds (strata: float list list) =
        let interval = Statistics.stratifiedBootstrap Statistics.mean strata
        Double.IsFinite interval.Low, Double.IsFinite interval.High

    Assert.Equal((true, true), bounds [ five ])
    Assert.Equal((false, false), bounds [ List.tail five ])
    Assert.Equal((false, false), bounds [ five; List.tail five ])

[<Fact>]
let ``the difference of returns is one of pairs, and a ratio has a reference above 0`` () =
    // Near each other, so that pairs are not those of the sorted values.
    let reference = [| -10.0f; -10.25f; -10.5f; -10.75f; -11.0f |]
    let values = Array.map2 (+) reference [| 0.5f; 1.25f; -0.25f; 0.75f; 1.0f |]
    // By hand, with the quantile 2.7764451051977987 of Student's distribution.
    Statistics.difference values reference
    |> expectInterval 1e-9 (0.65, -0.0646312977467568, 1.3646312977467567)

    Assert.Equal(0.5, Statistics.ratio 300.0 600.0)
    Assert.Equal(-0.5, Statistics.ratio -300.0 600.0)

    for reference in [ 0.0; -600.0; nan ] do
        Assert.True(Double.IsNaN(Statistics.ratio 300.0 reference))

[<Fact>]
let ``the sign test is exact`` () =
    // scipy.stats.binomtest(wins, wins + losses).pvalue
    let p =
        [ 1, 7; 0, 6; 6, 0; 3, 4; 0, 0 ] |> List.map (fun (wins, losses) -> Statistics.signTest wins losses)

    Expect.closeAll 1e-12 p [ 0.0703125; 0.03125; 0.03125; 1.0; 1.0 ] "p"

let private seeds (values: float list) =
    values |> List.mapi (fun seed value -> uint64 seed, value)

let private compare (a: float list) (b: float list) =
    (Statistics.paired ("A", seeds a) ("B", seeds b)).Value

[<Fact>]
let ``pairs are compared seed by seed`` () =
    let b = [ 10.0; 20.0; 30.0; 40.0; 50.0 ]
    let comparison = compare (List.map2 (+) b [ 0.5; 1.2; -0.3; 0.8; 0.9 ]) b
    // scipy.stats.t.interval of the differences.
    comparison.Mean |> expectInterval 1e-9 (0.62, -0.09003207069143271, 1.3300320706914328)
    Assert.Equal((4, 1, 0), (comparison.Wins, comparison.Losses, comparison.Sign))
    Expect.close 1e-12 comparison.SignP 0.375 "p of 4 to 1"
    Assert.Contains("no difference that these seeds can show", string comparison)
    // Percentiles of 20,000 resamples by Python's random.choices, the same to 0.02 for its seeds.
    comparison.Bootstrap |> expectInterval 0.03 (0.62, 0.15, 1.0)
    Assert.Contains("bootstrap [", string comparison)

[<Fact>]
let ``a comparison says who beats whom, or that it cannot`` () =
    let b = [ 10.0; 20.0; 30.0 ]
    let better = compare [ 11.0; 21.1; 30.9 ] b
    Assert.Equal(1, better.Sign)
    Assert.StartsWith("A beats B", string better)
    Assert.DoesNotContain("bootstrap", string better)
    Assert.DoesNotContain("best of", string better)
    Assert.DoesNotContain("best of", string { better with PickedFrom = 2 })

    Assert.Contains(
        "A is the best of 3 variants by these same numbers",
        string { better with PickedFrom = 3 }
    )

    let worse = compare [ 9.0; 19.1; 28.9 ] b
    Assert.Equal(-1, worse.Sign)
    Assert.StartsWith("B beats A", string worse)
    Assert.Contains("undecided", string (compare [ 11.0 ] [ 10.0 ]))
    // Only common seeds count.
    Assert.Equal<float list>(
        [ 1.0 ],
        (Statistics.paired ("A", [ 5UL, 3.0; 6UL, 9.0 ]) ("B", [ 5UL, 2.0 ])).Value.Differences
    )

    Assert.True((Statistics.paired ("A", [ 1UL, 3.0 ]) ("B", [ 2UL, 2.0 ])).IsNone)
