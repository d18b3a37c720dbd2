namespace Distill

open System

/// What is said to users.
[<AutoOpen>]
module internal Sentences =
    /// Refuses to go on, with the one sentence that the user reads.
    let fail (sentence: string) : 'Result = raise (DistillException sentence)

    /// Prints a line.
    let say (line: string) = Console.Out.WriteLine line
