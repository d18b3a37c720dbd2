namespace Distill

open System
open System.Collections.Generic
open System.Diagnostics
open System.IO
open System.Net.WebSockets
open System.Text.Json
open System.Text.Json.Serialization
open System.Threading

/// A headless Chromium with one page, driven by the DevTools protocol: pictures of charts, videos of replays, tests.
type Browser private (browser: Process, profile: string, socket: ClientWebSocket) =
    static let withoutNulls =
        JsonSerializerOptions(DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)

    static let names = [ "chromium"; "chromium-browser"; "google-chrome"; "chrome" ]

    let timeout = TimeSpan.FromSeconds 60.
    let problems = List<string>()
    let requests = List<string>()
    let loaded = List<string>()
    let mutable session: string | null = null
    let mutable lastId = 0

    let receive () =
        use message = new MemoryStream()
        let buffer = Array.zeroCreate<byte> 65536

        let rec next () =
            use cancel = new CancellationTokenSource(timeout)

            let part =
                socket.ReceiveAsync(ArraySegment buffer, cancel.Token).GetAwaiter().GetResult()

            message.Write(buffer, 0, part.Count)

            if not part.EndOfMessage then
                next ()

        next ()
        JsonDocument.Parse(message.ToArray()).RootElement

    let has (element: JsonElement) (name: string) =
        match element.TryGetProperty name with
        | true, value -> Some value
        | _ -> None

    let note (event: JsonElement) =
        let parameters = event.GetProperty "params"

        match event.GetProperty("method").GetString() with
        | "Page.loadEventFired" -> loaded.Add ""
        | "Network.requestWillBeSent" ->
            requests.Add(parameters.GetProperty("request").GetProperty("url").GetString() |> string)
        | "Runtime.exceptionThrown" -> problems.Add(parameters.GetProperty("exceptionDetails").GetRawText())
        | "Log.entryAdded" when parameters.GetProperty("entry").GetProperty("level").GetString() = "error" ->
            problems.Add(parameters.GetProperty("entry").GetRawText())
        | "Runtime.consoleAPICalled" when parameters.GetProperty("type").GetString() = "error" ->
            problems.Add(parameters.GetProperty("args").GetRawText())
        | _ -> ()

    let command (name: string) (parameters: obj) =
        lastId <- lastId + 1

        let bytes =
            JsonSerializer.SerializeToUtf8Bytes(
                {| id = lastId; method = name; ``params`` = parameters; sessionId = session |},
                withoutNulls
            )

        use cancel = new CancellationTokenSource(timeout)

        socket
            .SendAsync(ArraySegment bytes, WebSocketMessageType.Text, true, cancel.Token)
            .GetAwaiter()
            .GetResult()

        let rec answer () =
            let message = receive ()

            match has message "id" with
            | Some id when id.GetInt32() = lastId ->
                match has message "error" with
                | Some error -> failwith $"{name}: {error.GetRawText()}"
                | None -> message.GetProperty "result"
            | Some _ -> answer ()
            | None ->
                note message
                answer ()

        answer ()

    let attach () =
        let target =
            (command "Target.createTarget" {| url = "about:blank" |}).GetProperty("targetId").GetString()

        session <-
            (command "Target.attachToTarget" {| targetId = target; flatten = true |})
                .GetProperty("sessionId")
                .GetString()

        for domain in [ "Page"; "Runtime"; "Log"; "Network" ] do
            command (domain + ".enable") {| |} |> ignore

    /// The browser of this machine, if it has one.
    static member Path =
        let folders =
            match Environment.GetEnvironmentVariable "PATH" with
            | null -> [||]
            | path -> path.Split Path.PathSeparator

        Seq.allPairs names folders
        |> Seq.map (fun (name, folder) -> Path.Combine(folder, name))
        |> Seq.tryFind File.Exists

    /// Starts it with an empty profile.
    /// What for: "Saving a chart as PNG", for the message when there is none.
    static member Start(purpose: string) =
        let path =
            match Browser.Path with
            | Some path -> path
            | None ->
                fail
                    $"{purpose} needs Chromium, and there is none on the PATH: install it (on Debian: apt-get install chromium)."

        let profile = Directory.CreateTempSubdirectory("distill-browser-").FullName

        let arguments =
            [
                "--headless=new"
                "--no-sandbox"
                "--use-angle=swiftshader"
                "--enable-unsafe-swiftshader"
                "--hide-scrollbars"
                "--force-color-profile=srgb"
                "--no-first-run"
                "--disable-background-networking"
                "--disable-component-update"
                "--disable-sync"
                "--disable-quic"
                "--disable-dev-shm-usage"
                $"--user-data-dir={profile}"
                "--remote-debugging-port=0"
                "about:blank"
            ]

        let browser =
            Process.Start(ProcessStartInfo(path, arguments, RedirectStandardError = true)) |> nonNull

        let rec address () =
            match browser.StandardError.ReadLine() with
            | null -> fail $"{purpose} failed: '{path}' does not start."
            | line when line.StartsWith "DevTools listening on " -> Uri(line.Substring 22)
            | _ -> address ()

        try
            let address = address ()
            // Goes on reading, so that the browser never waits for room in the pipe.
            browser.StandardError.ReadToEndAsync() |> ignore
            let socket = new ClientWebSocket()
            socket.ConnectAsync(address, CancellationToken.None).GetAwaiter().GetResult()
            let started = new Browser(browser, profile, socket)
            started.Attach()
            started
        with _ ->
            Browser.Stop(browser, profile)
            reraise ()

    static member private Stop(browser: Process, profile: string) =
        if not browser.HasExited then
            browser.Kill true
            browser.WaitForExit()

        browser.Dispose()

        // Helpers of the browser may hold files for a moment longer.
        try
            Directory.Delete(profile, true)
        with
        | :? IOException
        | :? UnauthorizedAccessException -> ()

    member private _.Attach() = attach ()

    /// Errors of the page's scripts and of its console so far.
    member _.Problems = List.ofSeq problems

    /// Addresses that the page asked for so far and that are neither files nor part of it.
    member _.Requests =
        requests |> Seq.filter (fun url -> url.StartsWith "http") |> List.ofSeq

    /// Size of the page in CSS pixels, and of these in pixels of pictures; dark or light.
    member _.Resize(width: int, height: int, scale: float, dark: bool) =
        command
            "Emulation.setDeviceMetricsOverride"
            {| width = width; height = height; deviceScaleFactor = scale; mobile = width < 600 |}
        |> ignore

        command
            "Emulation.setEmulatedMedia"
            {|
                features =
                    [| {| name = "prefers-color-scheme"; value = (if dark then "dark" else "light") |} |]
            |}
        |> ignore

    /// Opens a file and waits until it has loaded.
    member _.Open(path: string) =
        loaded.Clear()
        command "Page.navigate" {| url = Uri(Path.GetFullPath path).AbsoluteUri |} |> ignore

        while loaded.Count = 0 do
            let message = receive ()

            if (has message "method").IsSome then
                note message

    /// The value of a JavaScript expression; a promise is awaited.
    member _.Evaluate(expression: string) : JsonElement =
        let result =
            command
                "Runtime.evaluate"
                {| expression = expression; awaitPromise = true; returnByValue = true |}

        match has result "exceptionDetails" with
        | Some details -> failwith $"The page failed: {details.GetRawText()}"
        | None ->
            match has (result.GetProperty "result") "value" with
            | Some value -> value
            | None -> JsonDocument.Parse("null").RootElement

    /// A picture of what is visible, or of the whole page.
    member _.Screenshot(format: string, whole: bool) : byte[] =
        (command "Page.captureScreenshot" {| format = format; captureBeyondViewport = whole |})
            .GetProperty("data")
            .GetBytesFromBase64()

    interface IDisposable with
        member _.Dispose() =
            socket.Dispose()
            Browser.Stop(browser, profile)
