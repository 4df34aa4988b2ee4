/** The slot of a key in a cluster: CRC-16 (XMODEM), of what is between { and } if there is something. */
export function slotOf(name: string): number {
  let bytes = Buffer.from(name);
  const open = bytes.indexOf("{");
  const end = open < 0 ? -1 : bytes.indexOf("}", open + 1);
  if (end > open + 1) bytes = bytes.subarray(open + 1, end);
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc % 16384;
}
