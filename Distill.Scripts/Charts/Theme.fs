/// Colours of charts and pages, light and dark.
///
/// A figure says `@0` … `@7` for the colours of series, `@ink`, `@muted`, `@grid` and `@paper` for the rest, with
/// `@0/0.2` for a colour of that opacity; the page puts the colours of its theme in their place.
module Distill.Theme

open System
open System.Globalization

/// Series are told apart by people with any of the common colour vision deficiencies: the hues of Okabe and Ito (2008),
/// with lightness changed until each has a contrast of at least 3 against the page.
let light =
    [
        "0", "#0068b3"
        "1", "#d55e00"
        "2", "#00875f"
        "3", "#b0508a"
        "4", "#b07d00"
        "5", "#2b93d1"
        "6", "#6b7280"
        "7", "#8a4b2a"
        "ink", "#1d2329"
        "muted", "#667079"
        "grid", "#e4e7ea"
        "paper", "#ffffff"
    ]

let dark =
    [
        "0", "#5cb3f2"
        "1", "#ff9552"
        "2", "#3ecb9c"
        "3", "#e592c2"
        "4", "#efbe4a"
        "5", "#9bd3f7"
        "6", "#a2acb6"
        "7", "#cfa58c"
        "ink", "#e4e8eb"
        "muted", "#98a2ab"
        "grid", "#2e353b"
        "paper", "#15191c"
    ]

/// The colour of the i-th series, as a figure says it.
let series (i: int) = "@" + string (i % 8)

/// A colour with an opacity, as a figure says it.
let faded (opacity: float) (colour: string) =
    colour + "/" + opacity.ToString CultureInfo.InvariantCulture

/// The colour that a figure's word means in a theme; other words, such as "red", mean themselves.
let colour (theme: (string * string) list) (word: string) =
    match
        if word.StartsWith '@' then
            word.Substring(1).Split '/'
        else
            [||]
    with
    | [||] -> word
    | parts ->
        match List.tryFind (fst >> (=) parts[0]) theme, parts with
        | Some(_, hex), [| _; opacity |] ->
            let channel (at: int) =
                string (Convert.ToInt32(hex.Substring(at, 2), 16))

            $"rgba({channel 1},{channel 3},{channel 5},{opacity})"
        | Some(_, hex), _ -> hex
        | None, _ -> word

/// The figure with the colours of a theme in place.
let rec resolve (theme: (string * string) list) (figure: Json) =
    match figure with
    | Json.Text word -> Json.Text(colour theme word)
    | Json.List values -> Json.List(values |> List.map (resolve theme))
    | Json.Object fields -> Json.Object(fields |> List.map (fun (name, value) -> name, resolve theme value))
    | other -> other

let private palette (theme: (string * string) list) =
    Json.Object(theme |> List.map (fun (name, hex) -> name, Json.Text hex))

/// Both themes, for the scripts of pages.
let json = Json.Object [ "light", palette light; "dark", palette dark ]

/// The themes as CSS variables `--c-ink`, `--c-0`, …; the dark one where the system asks for it.
let css =
    let variables theme =
        theme |> List.map (fun (name, hex: string) -> $"--c-{name}:{hex}") |> String.concat ";"

    $":root{{color-scheme:light dark;{variables light}}}"
    + $"@media(prefers-color-scheme:dark){{:root{{{variables dark}}}}}"
