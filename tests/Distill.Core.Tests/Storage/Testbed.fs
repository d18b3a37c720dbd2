namespace Distill.Tests

open System
open System.IO
open System.Text.Json
open System.IO.Compression
open Distill

/// What the tests of Distill.Storage share.
module Storage =
    let fixture (name: string) =
        Path.Combine(AppContext.BaseDirectory, "fixtures", name)

    /// What the work in a new folder gives, which is removed afterwards.
    let inTemporaryFolderOf (work: string -> 'T) : 'T =
        let folder = Directory.CreateTempSubdirectory("distill-test-").FullName

        try
            work folder
        finally
            Directory.Delete(folder, recursive = true)

    /// Runs the test in a new folder that is removed afterwards.
    let inTemporaryFolder (test: string -> unit) = inTemporaryFolderOf test

    /// The action is refused by one sentence that names the file; returns the sentence.
    let refused (path: string) (action: unit -> unit) =
        let message = (Expect.throws<DistillException> action).Message

        Expect.isTrue
            (message.Contains(string (Path.GetFileName path)))
            $"the message does not name {path}: {message}"

        Expect.isTrue (message.EndsWith '.' && not (message.Contains '\n')) $"not one sentence: {message}"
        message

    let contains (part: string) (message: string) =
        Expect.isTrue (message.Contains part) $"'{part}' is not in: {message}"

    /// Reading must succeed or be refused; any other exception fails the test. True if it succeeded.
    let survives (read: string -> unit) (path: string) (what: string) =
        try
            read path
            true
        with
        | :? DistillException -> false
        | e -> failwith $"{what}: {e}"

    /// Every truncation of a file is refused.
    let refusesTruncations (read: string -> unit) (path: string) =
        inTemporaryFolder (fun folder ->
            let bytes = File.ReadAllBytes path
            let copy = Path.Combine(folder, "truncated")

            for length in 0 .. bytes.Length - 1 do
                File.WriteAllBytes(copy, bytes[.. length - 1])

                Expect.isTrue
                    (not (survives read copy $"{length} bytes"))
                    $"read {length} of {bytes.Length} bytes")

    /// Random changes of up to four bytes are read or refused, nothing else.
    let survivesFlips (count: int) (read: string -> unit) (path: string) =
        inTemporaryFolder (fun folder ->
            let bytes = File.ReadAllBytes path
            let copy = Path.Combine(folder, "flipped")
            let random = Random 1

            for trial in 1..count do
                let changed = Array.copy bytes

                for _ in 0 .. random.Next 4 do
                    changed[random.Next changed.Length] <- byte (random.Next 256)

                File.WriteAllBytes(copy, changed)
                survives read copy $"trial {trial}" |> ignore)

    /// Writes a ZIP archive of stored entries.
    let writeZip (path: string) (entries: seq<string * byte[]>) =
        File.Delete path
        use archive = ZipFile.Open(path, ZipArchiveMode.Create)

        for name, content in entries do
            use stream = archive.CreateEntry(name, CompressionLevel.NoCompression).Open()
            stream.Write(content, 0, content.Length)

    let readZip (path: string) =
        use archive = ZipFile.OpenRead path

        [
            for entry in archive.Entries do
                use stream = entry.Open()
                use copy = new MemoryStream()
                stream.CopyTo copy
                entry.FullName, copy.ToArray()
        ]

    let text (value: JsonElement) =
        match value.GetString() with
        | null -> ""
        | text -> text

    /// What the JSON file beside a fixture says of it.
    let expectation (name: string) =
        use stream = File.OpenRead(fixture name)
        JsonDocument.Parse(stream).RootElement

    let items (value: JsonElement) = value.EnumerateArray() |> Seq.toArray

    /// Checkpoints of every generation of rsl_rl, among the fixtures.
    let rslRlCheckpoints =
        [
            "rsl_rl/v1_actor_critic"
            "rsl_rl/v2_actor_critic_recurrent"
            "rsl_rl/v23_student_teacher"
            "rsl_rl/v3_actor_critic"
            "rsl_rl/v3_student_teacher_recurrent"
            "rsl_rl/v4_ppo"
            "rsl_rl/v4_distillation"
            "rsl_rl/v5_ppo"
            "rsl_rl/v5_distillation"
        ]
