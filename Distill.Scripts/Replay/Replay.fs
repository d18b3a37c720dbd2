namespace Distill

open System
open System.Diagnostics
open System.IO

/// What moves in a replay, as its page reads it.
type internal Actor = { Name: string; Facts: (string * Json) list }

/// The JSON of what replays show.
module internal Actor =
    /// A tenth of a millimetre is enough for the eye.
    let private round (values: float[]) =
        Json.Numbers(values |> Array.map (fun value -> Math.Round(value, 4)))

    let private rounded (rows: float[][]) = round (Array.concat rows)

    /// What is commanded is clamped to -1 … 1 by whatever moves.
    let private command (action: float[][]) =
        round (action |> Array.concat |> Array.map (fun value -> Math.Clamp(value, -1., 1.)))

    let ofFlight (name: string, flight: FlightRecording) : Actor =
        {
            Name = name
            Facts =
                [
                    "drone", Json.Text flight.Drone
                    "stepTime", Json.Number flight.StepTime
                    "terminated", Json.Bool flight.Terminated
                    "rotorPositions",
                    Json.List(flight.RotorPositions |> Array.map Json.Numbers |> List.ofArray)
                    "position", rounded flight.Position
                    "orientation", rounded flight.Orientation
                    "bars", rounded flight.Rotors
                    "command", command flight.Action
                    "reference", rounded flight.ReferencePosition
                    "error", round flight.PositionError
                ]
        }

    let ofHand (name: string, episode: ManipulationRecording) : Actor =
        let each (values: float[]) =
            rounded (episode.Hand |> Array.map (fun _ -> values))

        {
            Name = name
            Facts =
                [
                    "stepTime", Json.Number episode.StepTime
                    "terminated", Json.Bool episode.Terminated
                    "position", rounded episode.Hand
                    "orientation", each [| 1.; 0.; 0.; 0. |]
                    "opening", round episode.Opening
                    "task", Json.Text episode.Task
                    "object", rounded episode.Object
                    "objectOrientation", rounded episode.ObjectOrientation
                    "bars", each (Array.zeroCreate 4)
                    "command", command episode.Action
                    "reference", each episode.Goal
                    "error", round episode.ToGoal
                ]
        }

/// Flights shown in space, one over the other or side by side: a page, or a cell of a notebook, or a video.
/// A flight called "teacher" is grey; the others have the colours of series.
[<TypeFormatterSource(typeof<ToHtmlFormatterSource>)>]
type Replay
    internal
    (title: string, flights: (string * FlightRecording) list, actors: Actor list, scene: (string * Json) list)
    =
    /// Names of colours of the theme.
    let colours () =
        actors
        |> List.mapFold
            (fun next actor ->
                if actor.Name = "teacher" then
                    "muted", next
                else
                    string (next % 8), next + 1)
            0
        |> fst

    let data =
        Json.Object(
            [
                "title", Json.Text title
                "flights",
                Json.List
                    [
                        for actor, colour in List.zip actors (colours ()) do
                            Json.Object(
                                [ "name", Json.Text actor.Name; "colour", Json.Text colour ] @ actor.Facts
                            )
                    ]
            ]
            @ scene
        )

    let page =
        lazy
            (let script = $"const recorded={Json.toText data};" + Page.text "replay.js"

             Page.html
                 title
                 ("<style>" + Page.text "replay.css" + "</style>")
                 (Page.chartScript PlotlyJs.None
                  + Page.three ()
                  + Page.text "replay.html"
                  + "<script>"
                  + script
                  + "</script>"))

    new(title: string, flights: seq<string * FlightRecording>) =
        let flights = List.ofSeq flights

        if flights.IsEmpty || flights |> List.exists (fun (_, flight) -> flight.Steps = 0) then
            fail "A replay was given no flight, or one without steps; record one with FlightRecording.record."

        Replay(
            title,
            flights,
            List.map Actor.ofFlight flights,
            [
                "axes", Json.List [ for axis in [ "FR"; "BR"; "BL"; "FL" ] -> Json.Text axis ]
                "meaning", Json.Text "Rotor states from the lower to the upper limit; the line is the command"
                "distance", Json.Text "distance to the reference"
            ]
        )

    member _.Title = title
    member _.Flights = flights

    /// A whole page, which needs no network.
    member _.ToPage() = page.Value

    /// HTML for a notebook.
    member _.ToHtml() =
        $"<iframe title=\"{Page.escape title}\" style=\"width:100%%;height:560px;border:0\" srcdoc=\"{Page.escape page.Value}\"></iframe>"

    member _.SaveHtml(path: string) = Page.save path page.Value

    /// The replay as an .mp4 file, in real time. Needs Chromium and ffmpeg.
    member _.SaveVideo(path: string, ?Width: int, ?Height: int, ?FramesPerSecond: int, ?Dark: bool) =
        let rate = defaultArg FramesPerSecond 25

        let temporary =
            Path.Combine(Path.GetTempPath(), $"distill-replay-{Guid.NewGuid():N}")

        use browser = Browser.Start "Saving a video"

        let arguments =
            [ "-v"; "error"; "-y"; "-f"; "image2pipe"; "-c:v"; "mjpeg"; "-r"; string rate; "-i"; "-" ]
            @ [ "-c:v"; "libx264"; "-pix_fmt"; "yuv420p"; "-movflags"; "+faststart"; temporary + ".mp4" ]

        let encoder =
            try
                Process.Start(ProcessStartInfo("ffmpeg", arguments, RedirectStandardInput = true)) |> nonNull
            with :? ComponentModel.Win32Exception as e ->
                raise (
                    DistillException(
                        "Saving a video needs ffmpeg, and there is none on the PATH: install it (on Debian: apt-get install ffmpeg).",
                        e
                    )
                )

        use encoder = encoder

        try
            Page.save (temporary + ".html") page.Value
            browser.Resize(defaultArg Width 1280, defaultArg Height 720, 1., defaultArg Dark false)
            browser.Open(temporary + ".html")

            let duration =
                browser.Evaluate("replay.ready.then(() => replay.film())").GetDouble()

            for frame in 0 .. int (duration * float rate) do
                browser.Evaluate($"replay.seek({float frame / float rate})") |> ignore
                encoder.StandardInput.BaseStream.Write(ReadOnlySpan(browser.Screenshot("jpeg", false)))

            encoder.StandardInput.Close()
            encoder.WaitForExit()

            if encoder.ExitCode <> 0 then
                fail $"ffmpeg could not make '{path}': exit code {encoder.ExitCode}."

            File.Move(temporary + ".mp4", path, true)
        finally
            if not encoder.HasExited then
                encoder.Kill()

            File.Delete(temporary + ".html")
            File.Delete(temporary + ".mp4")

    override _.ToString() =
        let names = actors |> List.map _.Name |> String.concat ", "
        $"Replay '{title}' of {names}"

module Replay =
    /// Episodes of hands on a table, with what they move and their goals; those that are shown together should have the same goal.
    let ofHands (title: string) (episodes: (string * ManipulationRecording) list) : Replay =
        if episodes.IsEmpty then
            fail "A replay was given no episode; record one with ManipulationRecording.record."

        Replay(
            title,
            [],
            List.map Actor.ofHand episodes,
            [
                "axes", Json.List [ for axis in [ "x"; "y"; "z"; "grip" ] -> Json.Text axis ]
                "meaning",
                Json.Text "The action: motion along x, y and z, and closing; the line is from -1 to 1"
                "distance", Json.Text "distance to the goal"
                "floor", Json.Number 0.
                // Within this it is done.
                "near",
                Json.Number(
                    match (snd episodes.Head).Task with
                    | "drawer_open" -> 0.03
                    | "button_press" -> 0.024
                    | _ -> 0.05
                )
            ]
        )

    /// The replay of the flights that a run folder holds, `flights/*.npz`.
    let ofRun (folder: string) : Replay =
        match FlightRecording.ofRun folder with
        | [] -> fail $"'{folder}' has no recorded flights; a run of quadrotors records them when it ends."
        | flights ->
            let path = DirectoryInfo folder

            let experiment =
                match path.Parent with
                | null -> ""
                | parent -> parent.Name + " "

            Replay(experiment + path.Name, flights)

    /// Keeps flights in a run folder, `flights/NAME.npz`, and writes `replay.html` of all that it has; returns its path.
    let write (folder: string) (flights: (string * FlightRecording) list) : string =
        let kept = Directory.CreateDirectory(Path.Combine(folder, "flights")).FullName

        for name, flight in flights do
            FlightRecording.save (Path.Combine(kept, name + ".npz")) [ flight ]

        let path = Path.Combine(folder, "replay.html")
        (ofRun folder).SaveHtml path
        path
