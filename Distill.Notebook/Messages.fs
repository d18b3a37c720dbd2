/// Jupyter's messages on the wire (https://jupyter-client.readthedocs.io/en/stable/messaging.html, version 5.3).
module Distill.Notebook.Messages

open System
open System.Collections.Generic
open System.Security.Cryptography
open System.Text
open System.Text.Json.Nodes

[<Literal>]
let ProtocolVersion = "5.3"

let private delimiter = "<IDS|MSG>"B

type Request =
    {
        /// Who asked: frames that lead the reply back.
        Identities: byte array list
        /// The header as it came; replies repeat it.
        Header: byte array
        Kind: string
        Content: JsonObject
    }

/// The newest signatures of messages, so that none is acted on twice.
type private Seen() =
    let limit = 65_536
    let order = Queue<string>()
    let known = HashSet<string>()

    /// Whether the signature is new; it is known from now on.
    member _.Add(signature: byte array) : bool =
        lock order (fun () ->
            let text = Encoding.Latin1.GetString signature

            if known.Add text then
                order.Enqueue text

                if order.Count > limit then
                    known.Remove(order.Dequeue()) |> ignore

                true
            else
                false)

/// Signs and checks messages with the key of the connection file; an empty key means that nobody does.
type Wire(key: string) =
    let session = Guid.NewGuid().ToString()
    let key = Encoding.UTF8.GetBytes key
    let seen = Seen()

    let parse (bytes: byte array) =
        Json.parse (Encoding.UTF8.GetString bytes)

    let signature (parts: byte array list) =
        if key.Length = 0 then
            [||]
        else
            HMACSHA256.HashData(key, Array.concat parts)
            |> Convert.ToHexStringLower
            |> Encoding.ASCII.GetBytes

    /// None for what is no message, not from somebody who knows the key, or a message that came before.
    member _.Read(frames: byte array list) : Request option =
        match List.tryFindIndex ((=) delimiter) frames with
        | None -> None
        | Some index ->
            match List.skip (index + 1) frames with
            | signed :: (header :: parent :: metadata :: content :: _) when
                CryptographicOperations.FixedTimeEquals(
                    ReadOnlySpan signed,
                    ReadOnlySpan(signature [ header; parent; metadata; content ])
                )
                && (key.Length = 0 || seen.Add signed)
                ->
                match parse header, parse content with
                | Some head, Some body ->
                    Some
                        {
                            Identities = List.take index frames
                            Header = header
                            Kind = Json.text "msg_type" head
                            Content = body
                        }
                | _ -> None
            | _ -> None

    /// The frames of a message; `parent` is the header of the request that caused it.
    member _.Write(identities: byte array list, kind: string, parent: byte array, content: JsonObject) =
        let header =
            Json.fields
                [
                    "msg_id", Json.node (Guid.NewGuid().ToString())
                    "session", Json.node session
                    "username", Json.node "kernel"
                    "date", Json.node (DateTime.UtcNow.ToString "o")
                    "msg_type", Json.node kind
                    "version", Json.node ProtocolVersion
                ]

        let bytes (json: JsonObject) =
            Encoding.UTF8.GetBytes(json.ToJsonString())

        let parts = [ bytes header; parent; "{}"B; bytes content ]
        identities @ [ delimiter; signature parts ] @ parts
