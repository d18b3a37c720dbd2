using System.Buffers.Binary;

namespace Distill.Storage;

/// <summary>The CRC-32 of ZIP archives, eight bytes at a time (Kounavis and Berry 2005, "slicing by 8").</summary>
internal struct Crc32()
{
    private const int Slices = 8;

    // Table k: what a byte does that k bytes follow.
    private static readonly uint[][] Tables = MakeTables();

    private uint state = uint.MaxValue;

    public readonly uint Value => ~state;

    public static uint Of(ReadOnlySpan<byte> data)
    {
        var crc = new Crc32();
        crc.Add(data);
        return crc.Value;
    }

    public void Add(ReadOnlySpan<byte> data)
    {
        var crc = state;
        for (; data.Length >= Slices; data = data[Slices..])
        {
            var low = BinaryPrimitives.ReadUInt32LittleEndian(data) ^ crc;
            var high = BinaryPrimitives.ReadUInt32LittleEndian(data[4..]);
            crc =
                Tables[7][(byte)low]
                ^ Tables[6][(byte)(low >> 8)]
                ^ Tables[5][(byte)(low >> 16)]
                ^ Tables[4][low >> 24]
                ^ Tables[3][(byte)high]
                ^ Tables[2][(byte)(high >> 8)]
                ^ Tables[1][(byte)(high >> 16)]
                ^ Tables[0][high >> 24];
        }
        foreach (var value in data)
            crc = (crc >> 8) ^ Tables[0][(byte)(crc ^ value)];
        state = crc;
    }

    private static uint[][] MakeTables()
    {
        var tables = new uint[Slices][];
        for (var slice = 0; slice < Slices; slice++)
        {
            tables[slice] = new uint[256];
            for (var i = 0u; i < 256; i++)
                tables[slice][i] = slice == 0 ? OfByte(i) : Next(tables[slice - 1][i], tables[0]);
        }
        return tables;
    }

    private static uint OfByte(uint crc)
    {
        for (var bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320u);
        return crc;
    }

    private static uint Next(uint crc, uint[] table) => (crc >> 8) ^ table[(byte)crc];
}
