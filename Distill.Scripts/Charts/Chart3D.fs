namespace Distill

open System

/// Charts in space.
[<AutoOpen>]
module Chart3D =
    type Chart with
        /// A surface above the plane.
        static member Surface
            (
                zData: seq<#seq<#IConvertible>>,
                ?X: seq<#IConvertible>,
                ?Y: seq<#IConvertible>,
                ?ColorScale: string,
                ?ShowScale: bool
            ) =
            Chart.Field("surface", zData, X, Y, Option.map Json.Text ColorScale, ShowScale, [])

        /// Points, lines or both in space. Mode as in `Scatter`.
        static member Scatter3D
            (
                x: seq<#IConvertible>,
                y: seq<#IConvertible>,
                z: seq<#IConvertible>,
                mode: string,
                ?Name: string,
                ?ShowLegend: bool,
                ?Opacity: float,
                ?Color: string,
                ?LineWidth: float,
                ?MarkerSize: float
            ) =
            let colour = Chart.Colour Color

            Chart.Of(
                "scatter3d",
                [
                    "x", Some(Json.ofSeq x)
                    "y", Some(Json.ofSeq y)
                    "z", Some(Json.ofSeq z)
                    "mode", Some(Json.Text mode)
                    yield! Chart.Info(Name, ShowLegend, Opacity)
                    "line",
                    Some(Json.Object [ "color", colour; "width", Json.Number(defaultArg LineWidth 4.) ])
                    "marker",
                    Some(Json.Object [ "color", colour; "size", Json.Number(defaultArg MarkerSize 3.) ])
                ]
            )

        /// Points in space.
        static member Point3D
            (
                x: seq<#IConvertible>,
                y: seq<#IConvertible>,
                z: seq<#IConvertible>,
                ?Name: string,
                ?ShowLegend: bool,
                ?MarkerColor: string,
                ?MarkerSize: float
            ) =
            Chart.Scatter3D(
                x,
                y,
                z,
                "markers",
                ?Name = Name,
                ?ShowLegend = ShowLegend,
                ?Color = MarkerColor,
                ?MarkerSize = MarkerSize
            )

        /// A line in space.
        static member Line3D
            (
                x: seq<#IConvertible>,
                y: seq<#IConvertible>,
                z: seq<#IConvertible>,
                ?Name: string,
                ?ShowLegend: bool,
                ?LineColor: string,
                ?LineWidth: float
            ) =
            Chart.Scatter3D(
                x,
                y,
                z,
                "lines",
                ?Name = Name,
                ?ShowLegend = ShowLegend,
                ?Color = LineColor,
                ?LineWidth = LineWidth
            )
