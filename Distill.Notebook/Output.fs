namespace Distill.Notebook

open System
open System.IO
open System.Text
open System.Threading

/// Ends the program with exit code 2 after printing the sentence.
exception Refused of sentence: string with
    override this.Message = this.sentence

[<AutoOpen>]
module Refusal =
    let refuse (sentence: string) : 'Result = raise (Refused sentence)

/// A value in every form a notebook may choose from: MIME type and text.
type Bundle = (string * string) list

/// Why a cell failed.
type Failure =
    {
        /// Type of the exception, or `error FS0001`.
        Name: string
        Message: string
        /// Lines for the reader; each that concerns the user's code begins with `cell N, line L`.
        Trace: string list
    }

type Output =
    /// Text written to `stdout` or `stderr`.
    | Written of name: string * text: string
    /// A value given to `display`.
    | Displayed of Bundle
    /// The value of the cell's last expression.
    | Result of Bundle
    | Failed of Failure

/// Passes outputs on in the order in which they were made, with written text in pieces as large as the interval allows.
/// Safe to use from several threads.
type OutputQueue(emit: Output -> unit, interval: TimeSpan) =
    let gate = obj ()
    let text = StringBuilder()
    let mutable stream = "stdout"

    /// Does the work as a whole: a cell is not stopped within `finally`. (The compiler drops a `try` without effect.)
    let whole (work: unit -> unit) =
        try
            Thread.MemoryBarrier()
        finally
            lock gate work

    let flush () =
        if text.Length > 0 then
            let written = text.ToString()
            text.Clear() |> ignore
            emit (Written(stream, written))

    let timer =
        new Timer((fun _ -> whole flush), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan)

    member _.Write(name: string, written: string) =
        whole (fun () ->
            if name <> stream then
                flush ()
                stream <- name

            if text.Length = 0 then
                timer.Change(interval, Timeout.InfiniteTimeSpan) |> ignore

            text.Append written |> ignore)

    member _.Add(output: Output) =
        whole (fun () ->
            flush ()
            emit output)

    member _.Flush() = whole flush

/// The console's `stdout` or `stderr` while notebooks run.
type CellWriter(name: string, queue: OutputQueue) =
    inherit TextWriter()
    override _.Encoding = Encoding.UTF8
    override _.Write(c: char) = queue.Write(name, string c)
    override _.Write(text: ReadOnlySpan<char>) = queue.Write(name, text.ToString())

    override _.Write(text: char array, index: int, count: int) =
        queue.Write(name, String(text, index, count))

    override _.Write(text: string | null) =
        queue.Write(name, Option.defaultValue "" (Option.ofObj text))
