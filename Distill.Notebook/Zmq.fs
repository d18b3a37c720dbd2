/// The few functions of libzmq (https://libzmq.readthedocs.io) that a Jupyter kernel needs.
module Distill.Notebook.Zmq

open System
open System.Reflection
open System.Runtime.InteropServices

[<Literal>]
let private Library = "zmq"

[<DllImport(Library)>]
extern nativeint private zmq_ctx_new()

[<DllImport(Library)>]
extern int private zmq_ctx_shutdown(nativeint context)

[<DllImport(Library)>]
extern int private zmq_ctx_term(nativeint context)

[<DllImport(Library, SetLastError = true)>]
extern nativeint private zmq_socket(nativeint context, int kind)

[<DllImport(Library)>]
extern int private zmq_close(nativeint socket)

[<DllImport(Library)>]
extern int private zmq_setsockopt(nativeint socket, int option, int& value, unativeint size)

[<DllImport(Library, SetLastError = true)>]
extern int private zmq_bind(nativeint socket, string address)

[<DllImport(Library, SetLastError = true)>]
extern int private zmq_send(nativeint socket, byte[] data, unativeint size, int flags)

[<DllImport(Library)>]
extern int private zmq_msg_init(nativeint message)

[<DllImport(Library, SetLastError = true)>]
extern int private zmq_msg_recv(nativeint message, nativeint socket, int flags)

[<DllImport(Library)>]
extern nativeint private zmq_msg_data(nativeint message)

[<DllImport(Library)>]
extern unativeint private zmq_msg_size(nativeint message)

[<DllImport(Library)>]
extern int private zmq_msg_more(nativeint message)

[<DllImport(Library)>]
extern int private zmq_msg_close(nativeint message)

[<DllImport(Library)>]
extern nativeint private zmq_strerror(int error)

// The library has another name on each system, and Debian installs it without the plain one.
NativeLibrary.SetDllImportResolver(
    Assembly.GetExecutingAssembly(),
    fun name _ _ ->
        let candidates = [ "libzmq.so.5"; "libzmq.5.dylib"; "libzmq.dll"; "libzmq" ]

        let load (candidate: string) =
            match NativeLibrary.TryLoad candidate with
            | true, handle -> Some handle
            | _ -> None

        if name <> Library then
            0n
        else
            match List.tryPick load candidates with
            | Some handle -> handle
            | None ->
                refuse "The Jupyter kernel needs the library libzmq (on Debian: apt-get install libzmq5)."
)

let private dontWait = 1
let private sendMore = 2

// Error numbers: those of the system, and ETERM of libzmq.
let private interrupted = 4
let private again = if OperatingSystem.IsMacOS() then 35 else 11
let private terminated = 156384765

let private fail (action: string) =
    let reason = Marshal.PtrToStringUTF8(zmq_strerror (Marshal.GetLastPInvokeError()))

    refuse $"libzmq could not {action}: {reason}."

type Kind =
    | Pub = 1
    | Rep = 4
    | Router = 6

/// A socket. One thread receives; several may send.
type Socket internal (handle: nativeint) =
    let gate = obj ()

    /// One frame and whether another follows; None when there is none, or none will come any more.
    let receiveFrame (flags: int) =
        // A zmq_msg_t has 64 bytes.
        let message = Marshal.AllocHGlobal 64

        try
            zmq_msg_init message |> ignore

            let rec receive () =
                if zmq_msg_recv (message, handle, flags) >= 0 then
                    let frame: byte array = Array.zeroCreate (int (zmq_msg_size message))
                    Marshal.Copy(zmq_msg_data message, frame, 0, frame.Length)
                    let more = zmq_msg_more message <> 0
                    zmq_msg_close message |> ignore
                    Some(frame, more)
                else
                    match Marshal.GetLastPInvokeError() with
                    | error when error = interrupted -> receive ()
                    | error when error = again || error = terminated -> None
                    | _ -> fail "receive"

            receive ()
        finally
            Marshal.FreeHGlobal message

    let rec receiveRest (frames: byte array list) (next: (byte array * bool) option) =
        match next with
        | None -> None
        | Some(frame, false) -> Some(List.rev (frame :: frames))
        | Some(frame, true) -> receiveRest (frame :: frames) (receiveFrame 0)

    member _.Bind(address: string) =
        if zmq_bind (handle, address) <> 0 then
            fail $"listen at {address}"

    /// Waits for a message and gives its frames; None when the context was shut down.
    member _.Receive() : byte array list option = receiveRest [] (receiveFrame 0)

    /// The frames of a message if one has arrived.
    member _.TryReceive() : byte array list option = receiveRest [] (receiveFrame dontWait)

    member _.Send(frames: byte array list) =
        let rec send (frames: byte array list) =
            match frames with
            | [] -> ()
            | frame :: rest ->
                let flags = if rest.IsEmpty then 0 else sendMore

                if zmq_send (handle, frame, unativeint frame.Length, flags) >= 0 then
                    send rest
                else
                    match Marshal.GetLastPInvokeError() with
                    | error when error = interrupted -> send frames
                    | error when error = terminated -> ()
                    | _ -> fail "send"

        lock gate (fun () -> send frames)

    member _.Close() = zmq_close handle |> ignore

type Context() =
    let handle = zmq_ctx_new ()

    member _.Socket(kind: Kind) =
        let socket = zmq_socket (handle, int kind)

        if socket = 0n then
            fail "make a socket"

        // ZMQ_LINGER: when a socket is closed, the milliseconds left for what was sent to go out.
        let mutable linger = 500
        zmq_setsockopt (socket, 17, &linger, unativeint sizeof<int>) |> ignore
        Socket socket

    /// Ends all waiting for messages. Sockets still have to be closed.
    member _.Shutdown() = zmq_ctx_shutdown handle |> ignore

    /// Waits until what was sent is out. All sockets must be closed.
    member _.Terminate() = zmq_ctx_term handle |> ignore
