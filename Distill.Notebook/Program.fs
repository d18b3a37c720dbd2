module Distill.Notebook.Program

open System

let private usage =
    "Distill.Notebook is called so:
  run NOTEBOOK OUTPUT_FOLDER [name=value ...]   execute a notebook
  check SCRIPT_FOLDER DOCUMENT ... [name=value ...]
                                                run the F# in Markdown documents; scripts in it get these arguments
  install [NAME]                                make the kernel known to Jupyter
  kernel CONNECTION_FILE                        serve Jupyter"

let private assignment (text: string) =
    match text.IndexOf '=' with
    | i when i > 0 -> text.Substring(0, i), text.Substring(i + 1)
    | _ -> refuse $"'{text}' is not of the form name=value."

let private main (arguments: string list) =
    match arguments with
    | "run" :: notebook :: folder :: parameters ->
        Headless.run notebook folder (List.map assignment parameters)
    | "check" :: folder :: (first :: _ as words) when not (first.Contains '=') ->
        let arguments, documents = words |> List.partition _.Contains('=')
        AppContext.SetData("distill.arguments", Array.ofList arguments)
        documents |> List.fold (fun code document -> max code (Snippets.run folder document)) 0
    | [ "install" ] -> KernelSpec.install KernelSpec.defaultName
    | [ "install"; name ] -> KernelSpec.install name
    | [ "kernel"; connectionFile ] -> Kernel.run connectionFile
    | _ -> refuse usage

[<EntryPoint>]
let entry (arguments: string array) =
    let errors = Console.Error

    try
        main (List.ofArray arguments)
    with Refused sentence ->
        errors.WriteLine sentence
        2
