/// What turns a library call into the main job of a script: arguments, sentences for errors, exit codes and signals.
module Distill.Script

open System
open System.Diagnostics
open System.IO
open System.Runtime.InteropServices

/// The script that F# Interactive runs, and the arguments after it; None in a notebook or a test.
let current: (string * string list) option =
    let words = Environment.GetCommandLineArgs() |> Array.toList |> List.tail

    match words |> List.tryFindIndex _.EndsWith(".fsx", StringComparison.OrdinalIgnoreCase) with
    | Some at -> Some(words[at], List.skip (at + 1) words)
    | None -> None

/// The sentence for an error of whoever runs the script, if it is one.
let rec internal sentence (error: exn) =
    match error with
    | :? DistillException
    // A folder that cannot be written, a full disk.
    | :? IOException
    | :? UnauthorizedAccessException -> Some(DistillException.Printable error.Message)
    | :? AggregateException as several when several.InnerExceptions.Count = 1 ->
        sentence several.InnerExceptions[0]
    | _ -> None

/// The sentence for an error, or what the error is where it is a mistake in the script or in Distill.
let internal describe (error: exn) =
    match sentence error with
    | Some sentence -> sentence
    | None ->
        let error = error.GetBaseException()
        DistillException.Printable $"{error.GetType().Name}: {error.Message}"

let private hint (error: exn) =
    match error with
    | :? OutOfMemoryException -> "Lower max_buffer_size or envs."
    | _ -> "This is a mistake in the script or in Distill. DISTILL_TRACE=1 shows where it happened."

/// Ends the process as the error deserves: its sentence alone and exit code 2 where the user can mend it, else the message,
/// a hint and exit code 1.
let private fail (error: exn) : int =
    Console.Error.WriteLine(describe error)

    if (sentence error).IsSome then
        2
    else
        Console.Error.WriteLine(hint error)
        1

/// A job that a signal stopped before its end: the exit code the signal stands for, and how to go on.
exception Stopped of exitCode: int * sentence: string with
    override stopped.Message = stopped.sentence

/// Arguments from a host that runs code which is no script of its own.
let private fromHost () =
    match AppContext.GetData "distill.arguments" with
    | :? (string array) as arguments -> List.ofArray arguments
    | _ -> []

/// A console's writer that goes on when nobody reads any more: the reader of a pipe has ended, the terminal is closed, the disk
/// of a file is full. What a job does must not depend on who watches.
type internal LastingWriter(inner: TextWriter) =
    inherit TextWriter(inner.FormatProvider)

    let attempt (work: unit -> unit) =
        try
            work ()
        with
        | :? IOException
        | :? ObjectDisposedException -> ()

    override _.Encoding = inner.Encoding
    override _.NewLine = inner.NewLine

    override _.Write(character: char) =
        attempt (fun () -> inner.Write character)

    override _.Write(text: string | null) = attempt (fun () -> inner.Write text)

    override _.Write(text: char array, index: int, count: int) =
        attempt (fun () -> inner.Write(text, index, count))

    override _.WriteLine(text: string | null) =
        attempt (fun () -> inner.WriteLine text)

    override _.Flush() = attempt inner.Flush

/// Takes the writers for the console's.
let internal useConsole (output: TextWriter) (error: TextWriter) =
    Console.SetOut(new LastingWriter(output))
    Console.SetError(new LastingWriter(error))

/// Runs the main job of a script with the arguments of the command line. Errors end a script with their exit code;
/// elsewhere (in notebooks, in tests) they are thrown.
let main (job: string list -> 'Result) : 'Result =
    match current with
    | None -> job (fromHost ())
    | Some(_, arguments) ->
        useConsole Console.Out Console.Error

        try
            job arguments
        with
        | Stopped(code, sentence) ->
            Console.Out.WriteLine(DistillException.Printable sentence)
            exit code
        | error ->
            if Environment.GetEnvironmentVariable "DISTILL_TRACE" = "1" then
                Console.Error.WriteLine error

            exit (fail error)

/// Listens to Ctrl-C, SIGTERM, SIGHUP and the interrupt of a notebook. The first asks the job to stop when it can, and is
/// answered at once; a later one ends it: a signal the process, an interrupt the cell. Signals that arrive together count as
/// one: one to a process group reaches a child directly and through its parent, on a busy machine some time later.
/// `answer`: what the job does now, as a sentence.
type Interruption(answer: string) =
    let gate = obj ()
    let mutable code = 0
    let mutable first = 0L

    /// Whether this is the first request.
    let ask (number: int) : bool =
        let isFirst =
            lock gate (fun () ->
                let isFirst = code = 0

                if isFirst then
                    first <- Stopwatch.GetTimestamp()
                    code <- 128 + number

                isFirst)

        if isFirst then
            Console.Error.WriteLine answer

        isFirst

    /// A person means a second Ctrl-C soon; programs that send SIGTERM or SIGHUP follow with SIGKILL, not with the same again.
    let together (number: int) =
        TimeSpan.FromSeconds(if number = 2 then 1.0 else 5.0)

    let listen (signal: PosixSignal) (number: int) =
        PosixSignalRegistration.Create(
            signal,
            fun context ->
                context.Cancel <- true

                if not (ask number) && Stopwatch.GetElapsedTime first > together number then
                    Console.Error.WriteLine "Stopped at once; what was saved last is kept."
                    exit (128 + number)
        )

    let registrations =
        [ listen PosixSignal.SIGHUP 1; listen PosixSignal.SIGINT 2; listen PosixSignal.SIGTERM 15 ]

    /// A host of notebooks looks here before it stops a cell by force; true says that the cell stops by itself.
    let hostSlot = "distill.interrupt"

    do AppContext.SetData(hostSlot, Func<bool>(fun () -> ask 2))

    /// 0, or the exit code that the signal stands for: 129, 130 or 143.
    member _.ExitCode = code

    interface IDisposable with
        member _.Dispose() =
            AppContext.SetData(hostSlot, null)

            for registration in registrations do
                registration.Dispose()
