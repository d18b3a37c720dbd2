/// MetaWorld's rewards, written down from the formulas, slowly, with arrays.
module Distill.Tests.ManipulationReference

type Scene =
    {
        Hand: float[]
        Tip: float[]
        LeftPad: float
        RightPad: float
        Opening: float
        Object: float[]
        Goal: float[]
        StartTip: float[]
        StartLeftPad: float
        StartRightPad: float
        StartObject: float[]
        /// The action's last number.
        Close: float
    }

let distance (a: float[]) (b: float[]) =
    sqrt (Array.sum (Array.map2 (fun x y -> (x - y) ** 2.0) a b))

/// tolerance(x; lo, hi, m) with the long tail.
let private tol lo hi m x =
    if x >= lo && x <= hi then
        1.0
    else
        let d = if x < lo then lo - x else x - hi
        1.0 / (1.0 + 9.0 * (d / m) ** 2.0)

/// Hamacher's product.
let private H a b =
    if a + b - a * b = 0.0 then 0.0 else a * b / (a + b - a * b)

let private xz (p: float[]) = [| p[0]; p[2] |]

let private grasp left right (s: Scene) =
    let margin = distance (xz s.StartObject) (xz s.StartTip) - 0.005
    let cxz = tol 0.0 0.005 margin (distance (xz s.Tip) (xz s.Object))
    let caging = H (H left right) cxz
    let grip = if caging > 0.97 then min 1.0 (max 0.0 s.Close) else 0.0
    (H caging grip + caging) / 2.0

let private cagingOfPush (s: Scene) =
    let pad y =
        tol 0.015 0.05 (abs (abs (y - s.StartObject[1]) - 0.05)) (abs (y - s.Object[1]))

    grasp (pad s.LeftPad) (pad s.RightPad) s

let private cagingOfPick (s: Scene) =
    let pad start x =
        tol 0.015 0.05 (abs (abs (s.Object[1] - start) - 0.05)) x

    grasp (pad s.StartLeftPad (s.LeftPad - s.Object[1])) (pad s.StartRightPad (s.Object[1] - s.RightPad)) s

let private inPlace (s: Scene) =
    tol 0.0 0.05 (distance s.StartObject s.Goal) (distance s.Object s.Goal)

let reach (s: Scene) =
    let d = distance s.Tip s.Goal
    10.0 * tol 0.0 0.05 (distance [| 0.0; 0.6; 0.2 |] s.Goal) d, d <= 0.05

let push (s: Scene) =
    let d = distance s.Object s.Goal
    let C = cagingOfPush s

    let r =
        if d < 0.05 then
            10.0
        elif distance s.Object s.Tip < 0.02 && s.Opening > 0.0 then
            4.0 * C + 1.0 + 5.0 * inPlace s
        else
            2.0 * C

    r, d <= 0.05

let pickPlace (s: Scene) =
    let d = distance s.Object s.Goal
    let r = H (cagingOfPick s) (inPlace s)

    let r =
        if distance s.Object s.Tip < 0.02 && s.Opening > 0.0 && s.Object[2] > s.StartObject[2] + 0.01 then
            r + 1.0 + 5.0 * inPlace s
        else
            r

    (if d < 0.05 then 10.0 else r), d <= 0.07

let drawerOpen (s: Scene) =
    let d = distance s.Object s.Goal

    let scaled (a: float[]) (b: float[]) =
        [| 3.0 * (a[0] - b[0]); 3.0 * (a[1] - b[1]); a[2] - b[2] |]

    let norm v = distance v [| 0.0; 0.0; 0.0 |]
    let closed = [| s.Goal[0]; s.Goal[1] + 0.2; s.Goal[2] |]
    let opening = tol 0.0 0.02 0.2 d

    let caging =
        tol 0.0 0.01 (norm (scaled closed s.StartTip)) (norm (scaled s.Object s.Hand))

    5.0 * (caging + opening), d <= 0.03

let buttonPress (s: Scene) =
    let d = abs (s.Goal[2] - s.Object[2])
    let toButton = distance s.Object s.Tip
    let near = tol 0.0 0.01 (distance s.Object s.StartTip) toButton
    // The button's start is 0.1935 above its box, the hole 0.1.
    let pressed = tol 0.0 0.005 (0.1935 - 0.1) d
    let r = 5.0 * H (1.0 - s.Opening) near
    (if toButton <= 0.03 then r + 5.0 * pressed else r), d <= 0.024
