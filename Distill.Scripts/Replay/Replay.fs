namespace Distill

open System
open System.Diagnostics
open System.IO

/// Flights shown in space, one over the other or side by side: a page, or a cell of a notebook, or a video.
/// A flight called "teacher" is grey; the others have the colours of series.
[<TypeFormatterSource(typeof<ToHtmlFormatterSource>)>]
type Replay(title: string, flights: seq<string * FlightRecording>) =
    let flights = List.ofSeq flights

    do
        if flights.IsEmpty || flights |> List.exists (fun (_, flight) -> flight.Steps = 0) then
            fail "A replay was given no flight, or one without steps; record one with FlightRecording.record."

    /// A tenth of a millimetre is enough for the eye.
    let round (values: float[]) =
        Json.Numbers(values |> Array.map (fun value -> Math.Round(value, 4)))

    let rounded (rows: float[][]) = round (Array.concat rows)

    /// Names of colours of the theme.
    let colours () =
        flights
        |> List.mapFold
            (fun next (name, _) ->
                if name = "teacher" then
                    "muted", next
                else
                    string (next % 8), next + 1)
            0
        |> fst

    let data =
        Json.Object
            [
                "title", Json.Text title
                "flights",
                Json.List
                    [
                        for (name, flight), colour in List.zip flights (colours ()) do
                            Json.Object
                                [
                                    "name", Json.Text name
                                    "colour", Json.Text colour
                                    "drone", Json.Text flight.Drone
                                    "stepTime", Json.Number flight.StepTime
                                    "terminated", Json.Bool flight.Terminated
                                    "rotorPositions",
                                    Json.List(flight.RotorPositions |> Array.map Json.Numbers |> List.ofArray)
                                    "position", rounded flight.Position
                                    "orientation", rounded flight.Orientation
                                    "rotors", rounded flight.Rotors
                                    // Motors clamp what they are commanded.
                                    "command",
                                    round (
                                        flight.Action
                                        |> Array.concat
                                        |> Array.map (fun value -> Math.Clamp(value, -1., 1.))
                                    )
                                    "reference", rounded flight.ReferencePosition
                                    "error", round flight.PositionError
                                ]
                    ]
            ]

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
        let names = flights |> List.map fst |> String.concat ", "
        $"Replay '{title}' of {names}"

module Replay =
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
