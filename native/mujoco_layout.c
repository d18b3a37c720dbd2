/*
 * Prints where MuJoCo keeps the fields that Distill reads and writes, as the C# that is kept in
 * Distill.Core/Environments/Manipulation/MujocoLayout.cs. The compiler and MuJoCo's headers are needed only here:
 *
 *     apt-get install gcc libmujoco-dev
 *     gcc native/mujoco_layout.c -o layout && ./layout > Distill.Core/Environments/Manipulation/MujocoLayout.cs
 */
#include <mujoco/mujoco.h>
#include <stddef.h>
#include <stdio.h>

#define PLACE(type, field, name) printf("        public const int " name " = %zu;\n", offsetof(type, field))
#define COUNT(field, name) PLACE(mjModel, field, name)
#define DATA(field, name) PLACE(mjData, field, name)

static void begin(const char *name, const char *what)
{
    printf("\n    /// <summary>%s</summary>\n    public static class %s\n    {\n", what, name);
}

static void end(void) { printf("    }\n"); }

int main(void)
{
    printf("namespace Distill.Environments.Manipulation;\n\n");
    printf("/// <summary>\n/// Where MuJoCo keeps the fields that are read and written here, in bytes. Printed by native/mujoco_layout.c; do not edit.\n"
           "/// </summary>\n");
    printf("internal static class MujocoLayout\n{\n");
    printf("    /// <summary>What mj_version() must return.</summary>\n    public const int Version = %d;\n", mjVERSION_HEADER);

    begin("Count", "Integers of mjModel.");
    COUNT(nq, "Nq");
    COUNT(nv, "Nv");
    COUNT(nu, "Nu");
    COUNT(na, "Na");
    COUNT(nbody, "Nbody");
    COUNT(nsite, "Nsite");
    COUNT(nmocap, "Nmocap");
    end();

    begin("Number", "Numbers of mjData.");
    DATA(time, "Time");
    end();

    begin("Array", "Pointers to numbers in mjData.");
    DATA(qpos, "Qpos");
    DATA(qvel, "Qvel");
    DATA(qacc_warmstart, "QaccWarmstart");
    DATA(ctrl, "Ctrl");
    DATA(mocap_pos, "MocapPos");
    DATA(site_xpos, "SiteXpos");
    end();

    begin("Warning", "The warning statistics of mjData: how often each was raised is the second integer of a pair.");
    DATA(warning, "First");
    printf("        public const int Size = %zu;\n", sizeof(mjWarningStat));
    printf("        public const int Raised = %zu;\n", offsetof(mjWarningStat, number));
    printf("        public const int Kinds = %d;\n", mjNWARNING);
    printf("        public const int BadQpos = %d;\n", mjWARN_BADQPOS);
    printf("        public const int BadQacc = %d;\n", mjWARN_BADQACC);
    end();

    begin("Kind", "Kinds of objects that have names.");
    printf("        public const int Site = %d;\n", mjOBJ_SITE);
    end();
    printf("}\n");
    return 0;
}
