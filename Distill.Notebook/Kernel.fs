/// A Jupyter kernel for F#.
module Distill.Notebook.Kernel

open System
open System.Diagnostics
open System.IO
open System.Text
open System.Text.Json.Nodes
open System.Threading
open Distill.Notebook.Json
open Distill.Notebook.Messages

/// The file by which Jupyter tells a kernel where to listen.
type private Connection = { Address: string -> string; Key: string }

let private readConnection (path: string) =
    if not (File.Exists path) then
        refuse $"There is no connection file {path}."

    let root =
        match Json.parse (File.ReadAllText path) with
        | Some root -> root
        | None -> refuse $"{path} is not a connection file of Jupyter."

    match text "signature_scheme" root with
    | ""
    | "hmac-sha256" -> ()
    | scheme -> refuse $"{path} asks for the signature scheme {scheme}; this kernel knows hmac-sha256."

    let transport, ip = text "transport" root, text "ip" root

    {
        Address =
            fun channel ->
                let port = integer (channel + "_port") root

                if transport = "ipc" then
                    $"ipc://{ip}-{port}"
                else
                    $"{transport}://{ip}:{port}"
        Key = text "key" root
    }

// Jupyter counts code points, .NET counts UTF-16 units.

let private toUnits (code: string) (points: int) =
    code.EnumerateRunes() |> Seq.truncate points |> Seq.sumBy _.Utf16SequenceLength

let private toPoints (code: string) (units: int) =
    code.Substring(0, units).EnumerateRunes() |> Seq.length

/// The content of a reply to a request that was served.
let private ok (content: (string * (JsonNode | null)) list) = ("status", node "ok") :: content

let private kernelInfo () =
    let version = Environment.Version.ToString()

    ok
        [
            "protocol_version", node ProtocolVersion
            "implementation", node "distill"
            "implementation_version", node "0.1.0"
            "language_info",
            fields
                [
                    "name", node "F#"
                    "version", node "10.0"
                    "mimetype", node "text/x-fsharp"
                    "file_extension", node ".fs"
                    "pygments_lexer", node "fsharp"
                ]
            "banner", node $"Distill F# on .NET {version}"
            "help_links", JsonArray()
        ]

/// Ends this process soon after the one that started it has ended.
let private watchParent () =
    match Int32.TryParse(Environment.GetEnvironmentVariable "JPY_PARENT_PID") with
    | true, id when id > 1 ->
        let wait () =
            try
                Process.GetProcessById(id).WaitForExit()
            with :? ArgumentException ->
                ()

            Environment.Exit 1

        Thread(wait, IsBackground = true).Start()
    | _ -> ()

/// What serves one front end. Cells run one after another, on the thread that serves the shell channel; requests to interrupt or
/// to shut down arrive on the control channel meanwhile.
type private Server(connection: Connection) =
    let wire = Wire connection.Key
    let context = Zmq.Context()

    let listen (kind: Zmq.Kind) (channel: string) =
        let socket = context.Socket kind
        socket.Bind(connection.Address channel)
        socket

    let shell = listen Zmq.Kind.Router "shell"
    let control = listen Zmq.Kind.Router "control"
    let stdin = listen Zmq.Kind.Router "stdin"
    let heartbeat = listen Zmq.Kind.Rep "hb"
    let publisher = listen Zmq.Kind.Pub "iopub"

    let publish (parent: byte array) (kind: string) (content: (string * (JsonNode | null)) list) =
        publisher.Send(wire.Write([ Encoding.ASCII.GetBytes kind ], kind, parent, fields content))

    let status (parent: byte array) (state: string) =
        publish parent "status" [ "execution_state", node state ]

    let reply (socket: Zmq.Socket) (request: Request) (content: (string * (JsonNode | null)) list) =
        let kind = request.Kind.Replace("_request", "_reply")
        socket.Send(wire.Write(request.Identities, kind, request.Header, fields content))

    // What the cell that runs belongs to.
    let mutable parent = "{}"B
    let mutable count = 0
    let mutable silent = false

    let emit (output: Output) =
        match output with
        | _ when silent -> ()
        | Written(name, written) -> publish parent "stream" [ "name", node name; "text", node written ]
        | Displayed forms ->
            publish
                parent
                "display_data"
                [ "data", NotebookFile.bundle forms; "metadata", JsonObject(); "transient", JsonObject() ]
        | Result forms ->
            publish
                parent
                "execute_result"
                [ "execution_count", node count; "data", NotebookFile.bundle forms; "metadata", JsonObject() ]
        | Failed error -> publish parent "error" (NotebookFile.failure error)

    let session =
        new Session(
            Environment.CurrentDirectory,
            Environment.CurrentDirectory,
            emit,
            TimeSpan.FromMilliseconds 50.0
        )

    /// The requests that have already arrived.
    let rec arrived () : Request list =
        match shell.TryReceive() with
        | None -> []
        | Some frames -> Option.toList (wire.Read frames) @ arrived ()

    /// Runs a cell. If it fails, gives the requests that waited behind it.
    let execute (request: Request) : Request list =
        let code = text "code" request.Content
        silent <- flag "silent" false request.Content
        parent <- request.Header

        if not silent && flag "store_history" true request.Content then
            count <- count + 1

        if not silent then
            publish parent "execute_input" [ "code", node code; "execution_count", node count ]

        match session.Run($"cell {count}", code.ReplaceLineEndings "\n") with
        | None ->
            reply
                shell
                request
                (ok
                    [
                        "execution_count", node count
                        "payload", JsonArray()
                        "user_expressions", JsonObject()
                    ])

            []
        | Some error ->
            // Before the reply: nothing that is sent because of it is among them.
            let waiting =
                if flag "stop_on_error" true request.Content then
                    arrived ()
                else
                    []

            reply
                shell
                request
                ([ "status", node "error"; "execution_count", node count ] @ NotebookFile.failure error)

            waiting

    let complete (request: Request) =
        let code = text "code" request.Content
        let position = toUnits code (integer "cursor_pos" request.Content)
        let names, start = session.Complete(code, position)

        reply
            shell
            request
            (ok
                [
                    "matches", node names
                    "cursor_start", node (toPoints code start)
                    "cursor_end", node (toPoints code position)
                    "metadata", JsonObject()
                ])

    let inspect (request: Request) =
        let code = text "code" request.Content

        let found =
            session.Inspect(code, toUnits code (integer "cursor_pos" request.Content))

        reply
            shell
            request
            (ok
                [
                    "found", node found.IsSome
                    "data", NotebookFile.bundle [ for text in Option.toList found -> "text/plain", text ]
                    "metadata", JsonObject()
                ])

    let finished = new ManualResetEventSlim()

    let shutdown (socket: Zmq.Socket) (request: Request) =
        reply socket request (ok [ "restart", node (flag "restart" false request.Content) ])

    /// Answers a request. If it was a cell that failed, the cells that waited behind it are not run.
    let rec answer (request: Request) : unit =
        status request.Header "busy"

        let waiting =
            match request.Kind with
            | "execute_request" -> execute request
            | kind ->
                try
                    match kind with
                    | "kernel_info_request" -> reply shell request (kernelInfo ())
                    | "complete_request" -> complete request
                    | "inspect_request" -> inspect request
                    | "is_complete_request" -> reply shell request [ "status", node "unknown" ]
                    | "history_request" -> reply shell request (ok [ "history", JsonArray() ])
                    | "comm_info_request" -> reply shell request (ok [ "comms", JsonObject() ])
                    | "shutdown_request" ->
                        shutdown shell request
                        finished.Set()
                    | _ -> ()
                with error ->
                    // Asking the compiler about unfinished code is not worth a kernel.
                    let what = { Name = error.GetType().Name; Message = error.Message; Trace = [] }

                    reply shell request (("status", node "error") :: NotebookFile.failure what)

                []

        status request.Header "idle"

        for next in waiting do
            if next.Kind = "execute_request" then
                status next.Header "busy"
                reply shell next [ "status", node "aborted"; "execution_count", node count ]
                status next.Header "idle"
            else
                answer next

    let serve (socket: Zmq.Socket) (handle: Request -> unit) =
        let rec next () =
            match socket.Receive() with
            | None -> socket.Close()
            | Some frames ->
                wire.Read frames |> Option.iter handle
                next ()

        next ()

    let serveShell () =
        status "{}"B "starting"
        serve shell answer

    let serveControl () =
        serve control (fun request ->
            status request.Header "busy"

            match request.Kind with
            | "interrupt_request" ->
                session.Interrupt()
                reply control request (ok [])
            | "shutdown_request" -> shutdown control request
            | "kernel_info_request" -> reply control request (kernelInfo ())
            | _ -> ()

            status request.Header "idle"

            if request.Kind = "shutdown_request" then
                finished.Set())

    let rec serveHeartbeat () =
        match heartbeat.Receive() with
        | None -> heartbeat.Close()
        | Some frames ->
            heartbeat.Send frames
            serveHeartbeat ()

    let start (work: unit -> unit) =
        let thread = Thread(work, IsBackground = true)
        thread.Start()
        thread

    /// Serves until the front end asks for the end.
    member _.Run() : unit =
        let threads = [ start serveShell; start serveControl; start serveHeartbeat ]
        finished.Wait()
        session.Interrupt()
        context.Shutdown()

        // Code that does not end does not keep the kernel from ending.
        if threads |> List.forall (fun thread -> thread.Join 1000) then
            publisher.Close()
            stdin.Close()
            context.Terminate()

    interface IDisposable with
        member _.Dispose() = (session :> IDisposable).Dispose()

/// Serves the front end of a connection file until it asks for the end.
let run (connectionFile: string) : int =
    use server = new Server(readConnection connectionFile)
    watchParent ()
    server.Run()
    0
