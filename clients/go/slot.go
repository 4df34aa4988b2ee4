package locks

import "strings"

// slotOf gives the slot of a cluster that has this name: CRC16, by XMODEM, of what is between the first braces, if there is
// anything, and else of all.
func slotOf(name string) uint16 {
	if _, tagged, ok := strings.Cut(name, "{"); ok {
		if tag, _, ok := strings.Cut(tagged, "}"); ok && tag != "" {
			name = tag
		}
	}
	sum := uint16(0)
	for at := range len(name) {
		sum ^= uint16(name[at]) << 8
		for range 8 {
			carry := sum >> 15
			sum = sum<<1 ^ 0x1021*carry
		}
	}
	return sum % 16384
}
